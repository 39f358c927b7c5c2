"""`python -m sparse_actors` is the command `sparse-actors`."""

from .cli import main

if __name__ == "__main__":
    main()
