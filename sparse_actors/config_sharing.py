"""The tables of the configuration that say what a run shares: its work, its messages, its news."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Table(BaseModel):
    """Base of all tables: frozen, no unknown keys, no conversion of types.

    The text under each key is what the report of a mistake and the schema for editors show.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class WorkersTable(Table):
    """The processes that detect."""

    local: int = Field(default=0, ge=0, le=1024)
    """detector processes on this computer; 0 is one for every spare core"""
    listen: str = Field(default="", pattern=r"^(tcp://[^\s:/]+:[0-9]{1,5})?$")
    """where workers of other computers join, tcp://ADDRESS:PORT; empty: local workers only"""
    tags: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")], ...] = ()
    """what this computer has for its own workers, such as ["gpu"]"""
    pool: str = Field(default="", pattern=r"^(dask://[^\s/]+:[0-9]{1,5})?$")
    """detect on a Dask cluster instead: dask://HOST:PORT of its scheduler; empty: workers of our own"""


class TapsTable(Table):
    """What other programs see of the run while it goes on, see docs/taps.md."""

    listen: str = Field(default="", pattern=r"^(tcp://[^\s]+:([0-9]{1,5}|\*))?$")
    """where taps knock, such as tcp://127.0.0.1:7742; facts go to the next port; empty: no taps"""
    images_listen: str = Field(default="", pattern=r"^(tcp://[^\s]+:([0-9]{1,5}|\*))?$")
    """where images, spectra and maps go, such as tcp://127.0.0.1:7744; empty: they are not shown"""
    images: Literal["preview", "full"] = "preview"
    """images reduced to at most 768 pixels on a side, or as they are"""


class PageTable(Table):
    """The live page of the run, see docs/page.md."""

    listen: str = ""
    """where browsers find it, such as 127.0.0.1:8765, or an address that others reach; empty: no page"""


class HooksTable(Table):
    """Whom to tell when something happens; `${NAME}` in an address is an environment variable."""

    on: tuple[Literal["started", "paused", "failed", "finished"], ...] = (
        "started",
        "paused",
        "failed",
        "finished",
    )
    """what is told; finished: completed or stopped"""
    command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """program with its arguments, which gets one JSON object on its standard input; empty: none"""
    webhook: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """address to which one JSON object is posted; empty: none"""
    mail_to: tuple[Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$")], ...] = ()
    """addresses that get a mail; empty: none"""
    mail_from: str = Field(default="", pattern=r"^([^\s@]+@[^\s@]+)?$")
    """sender of the mails"""
    mail_server: str = Field(default="", pattern=r"^(smtps?://\S+)?$")
    """smtp://USER:${PASSWORD}@HOST:PORT; smtps:// is encrypted from the start, smtp:// if the server can"""
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    """seconds that a command, a webhook or a mail may take"""
