"""A file that describes an application, whichever way: chosen by its suffix, loaded only when met."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jcpeer.application.loaded import LoadedApplication
from jcpeer.errors import GraphError


def load(
    path: str | Path, *, variables: Mapping[str, str] | None = None, scale: float = 1.0, burn: bool = False
) -> LoadedApplication:
    """The application that this file describes.

    Args:
        path: `.toml`; `.json` in WfFormat, a recorded run; or `.py`, which is run here and defines `app`.
        variables: Values for `[application.variables]` of a TOML file.
        scale: Factor on the times of a recorded run.
        burn: Tasks of a recorded run burn a core instead of sleeping.

    Raises:
        GraphError: it describes none, or cannot take these options; the text names file, task and remedy.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix != ".toml" and variables:
        raise GraphError(f"{path}: only a TOML file has variables to set; leave out --set {next(iter(variables))}=…")
    if suffix != ".json" and (scale != 1.0 or burn):
        raise GraphError(f"{path}: only a recorded run (.json) can be scaled or burn; leave that out")
    match suffix:
        case ".toml":
            from jcpeer.application.toml import load_toml

            return load_toml(path, variables=variables or {})
        case ".json":
            from jcpeer.application.wfformat import load_wfformat

            return load_wfformat(path, scale=scale, burn=burn)
        case ".py":
            from jcpeer.application.script import load_script

            return load_script(path)
    raise GraphError(f"{path}: an application is a .toml, .py or WfFormat .json file; rename it or convert it")
