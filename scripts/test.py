"""Run the test suite in the environment that start.py makes; arguments are passed on to pytest.

python3 scripts/test.py
python3 scripts/test.py -m long tests/test_config.py
"""

import sys

import start


def _pytest():
    return [str(start.ready(extras=("test",))), "-m", "pytest", *sys.argv[1:]], start.ROOT


if __name__ == "__main__":
    start.main(_pytest)
