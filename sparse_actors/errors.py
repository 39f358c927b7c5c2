"""The few exceptions. Each message says what was expected, what came, and what to do."""


class SparseActorsError(Exception):
    """Base of everything raised on purpose."""


class ConfigError(SparseActorsError):
    """The configuration cannot be used; `problems` lists every reason at once.

    Parameters
    ----------
    problems
        One complete sentence each, starting with the key.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class MicroscopeError(SparseActorsError):
    """The instrument refused or failed; the order may be tried again."""


class InstrumentInUseError(MicroscopeError):
    """Another run has the instrument; says which, and since when."""


class StageError(MicroscopeError):
    """The stage did not arrive where it was sent."""


class CapabilityError(MicroscopeError):
    """The instrument cannot do this at all; trying again is of no use."""


class DetectorError(SparseActorsError):
    """A detector returned something that is not a list of points in the image."""


class ClassifierError(SparseActorsError):
    """A classifier of spectra cannot be used on these spectra, or returned something that is not classes."""


class WireError(SparseActorsError):
    """Bytes from a socket or a file that are not a valid message."""


class JournalError(SparseActorsError):
    """The journal or a slab contradicts itself; nothing is changed on disk."""


class ExportError(SparseActorsError):
    """A run cannot be written in that format, or to that place."""


class PluginError(SparseActorsError):
    """No such driver or detector, or it could not be loaded."""


class ControlError(SparseActorsError):
    """A run or a daemon refused what it was asked."""


class NobodyAnswersError(ControlError):
    """There is no run or daemon to talk to."""


class ActorError(SparseActorsError):
    """An actor gave up after its restart budget."""


class StoppedError(SparseActorsError):
    """A signal asked for the end before there was a result.

    Parameters
    ----------
    signal_name
        Such as "SIGINT".
    """

    def __init__(self, signal_name: str) -> None:
        super().__init__(f"{signal_name} received: nothing was written")
        self.is_interrupt = signal_name == "SIGINT"


class TapError(SparseActorsError):
    """A run could not be listened to, or does not take what was sent to it."""
