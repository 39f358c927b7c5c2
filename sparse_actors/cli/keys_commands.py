"""The commands for keys: who may connect from other computers."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .reporting import Json, print_json, reported

if TYPE_CHECKING:
    from sparse_actors.network.keys import Keys

keys_app = typer.Typer(help="Keys of workers and clients on other computers.", no_args_is_help=True)

For = Annotated[
    str, typer.Option("--for", metavar="SERVICE", help="What it may connect to: workers, control or taps.")
]


def _keys() -> "Keys":
    from sparse_actors.network.keys import Keys, keys_folder

    return Keys(keys_folder(os.environ))


@keys_app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of this computer; on the microscope's computer: daemon.")],
    daemon: Annotated[
        str, typer.Option(metavar="KEY", help="The daemon's public key or daemon.key; for all but itself.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a key pair; the secret half stays here, the public one is to be allowed by the other side."""
    with reported(as_json) as data:
        from sparse_actors.errors import ConfigError
        from sparse_actors.network.keys import DAEMON, read_secret

        if bool(daemon) == (name == DAEMON):
            raise ConfigError(
                f"--daemon {daemon!r}: expected the key that `sparse-actors keys new {DAEMON}` printed on "
                f"the microscope's computer, for every name but {DAEMON!r}"
            )
        path = _keys().new(name, _public(daemon)[1] if daemon else b"")
        pair = read_secret(path)
        public = path.with_suffix(".key")
        if as_json:
            print_json(data, name=name, public=pair.public.hex(), secret_file=str(path), file=str(public))
            return
        typer.echo(pair.public.hex(), file=data)
        typer.echo(f"secret: {path}\npublic: {public}", err=True)
        if sys.platform == "win32":
            typer.echo(
                "who can read the secret is what the folder's access rights say; that is not checked here",
                err=True,
            )
        elsewhere, command = (
            ("worker's", f"sparse-actors keys new NAME --daemon {pair.public.hex()}")
            if name == DAEMON
            else ("microscope's", f"sparse-actors keys allow {pair.public.hex()} --name {name}")
        )
        typer.echo(f"next, on the {elsewhere} computer: {command}", err=True)


@keys_app.command()
def allow(
    key: Annotated[str, typer.Argument(metavar="FILE|KEY", help="A public key, or its file NAME.key.")],
    name: Annotated[str, typer.Option(help="What to call it; by default as the file says.")] = "",
    service: For = "workers",
    as_json: Json = False,
) -> None:
    """Let the holder of a key connect to this computer; takes effect at once."""
    with reported(as_json) as data:
        from sparse_actors.errors import ConfigError
        from sparse_actors.network.keys import SERVICES

        if service not in SERVICES:
            raise ConfigError(f"--for {service!r}: expected one of {', '.join(SERVICES)}")
        found, public = _public(key)
        if not (name or found):
            raise ConfigError("--name: a key without its file needs a name")
        _keys().allow(name or found, public, service)
        if as_json:
            print_json(data, name=name or found, public=public.hex(), service=service)
        typer.echo(f"{name or found} may connect to {service}", err=True)


@keys_app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="As `keys list` shows it.")], as_json: Json = False
) -> None:
    """Let a key connect to nothing any more; a worker that is connected is sent away at once."""
    with reported(as_json) as data:
        from sparse_actors.errors import ConfigError

        services = _keys().revoke(name)
        if not services:
            raise ConfigError(f"{name!r} was not allowed anything; see `sparse-actors keys list`")
        if as_json:
            print_json(data, name=name, services=services)
        typer.echo(f"{name} may not connect to {', '.join(services)} any more", err=True)


@keys_app.command(name="list")
def list_keys(as_json: Json = False) -> None:
    """Show the pairs on this computer and who may connect to it."""
    with reported(as_json) as data:
        from sparse_actors.network.keys import SERVICES, read_secret

        keys = _keys()
        own = {
            pair.name: pair.public.hex() for pair in map(read_secret, sorted(keys.folder.glob("*.secret")))
        }
        allowed = {
            service: {name: public.hex() for public, name in keys.allowed(service).items()}
            for service in SERVICES
        }
        if as_json:
            print_json(data, folder=str(keys.folder), own=own, allowed=allowed)
            return
        for kind, names in [("own", own), *allowed.items()]:
            for name, public in names.items():
                typer.echo(f"{kind:8} {name:24} {public}", file=data)


def _public(text: str) -> tuple[str, bytes]:
    """Return the name in a key file, if it is one, and the public key."""
    from sparse_actors.network.keys import parse_key, read_public

    path = Path(text)
    return read_public(path) if path.suffix == ".key" or path.is_file() else ("", parse_key(text))
