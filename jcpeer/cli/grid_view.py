"""A grid as people and programs read it: the chain from its root over the invitation to the nodes of this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from jcpeer.cli.terminal import field_lines
from jcpeer.cli.words import plain
from jcpeer.errors import MembershipError
from jcpeer.membership.certificates import EVERY_RIGHT, Certificate, Invitation, verify_chain
from jcpeer.membership.store import OwnGrid, kept_chain
from jcpeer.places import state_dir


@frozen
class CertifiedNode:
    """A node of this machine with a certificate in the grid. `fault` says why it does not hold any more, if so."""

    name: str
    certificate: Certificate
    fault: str = ""


def certified_nodes(own: OwnGrid) -> Iterator[CertifiedNode]:
    """The nodes whose state is in the usual place, by name."""
    states = state_dir("node").parent
    for state in sorted(states.iterdir()) if states.is_dir() else []:
        node = _certified(state, own)
        if node is not None:
            yield node


def _certified(state: Path, own: OwnGrid) -> CertifiedNode | None:
    chain = kept_chain(state, own.fingerprint)
    if chain is None:
        return None
    try:
        certificate = verify_chain(chain, root=own.root, now_s=None)
    except MembershipError:
        return None
    try:
        verify_chain(chain, root=own.root, now_s=time.time())
    except MembershipError as error:
        return CertifiedNode(state.name, certificate, str(error))
    return CertifiedNode(state.name, certificate)


def lines(own: OwnGrid, *, default: bool) -> list[str]:
    """The chain for people."""
    invitation = own.admission.invitation
    head = f"Grid {plain(own.name)} ({own.fingerprint})" + (", which nodes of this machine enter" if default else "")
    root = "the key is here: `jcpeer grid invite` lets others in" if own.root_key else "the key is where it was created"
    fields: dict[str, str | list[str]] = {
        "root": f"{own.root.hex()}; {root}",
        "invitation": f"{invitation.serial}, for {plain(invitation.user)}, {_terms(invitation)}",
    }
    nodes = list(certified_nodes(own))
    fields["nodes here"] = [_node_line(each) for each in nodes] or "none yet"
    return [head, *field_lines(fields)]


def _node_line(node: CertifiedNode) -> str:
    certificate = node.certificate
    line = f"{node.name}: {certificate.node} on {plain(certificate.host)}, certificate {certificate.serial}"
    return f"{line}, {_terms(certificate)}" + (f" — {plain(node.fault)}" if node.fault else "")


def _terms(statement: Invitation | Certificate) -> str:
    rights = "every right" if statement.rights == EVERY_RIGHT else "rights " + ", ".join(map(plain, statement.rights))
    issued = f"since {instant(statement.issued_s)}, " if statement.issued_s else ""
    return f"{rights}, {issued}" + (
        f"until {instant(statement.expires_s)}" if statement.expires_s is not None else "without expiry"
    )


def instant(at_s: float) -> str:
    """A date and time of this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))


def as_json(own: OwnGrid, *, default: bool) -> dict[str, Any]:
    """The chain for programs."""
    invitation = own.admission.invitation
    return {
        "grid": own.name,
        "fingerprint": own.fingerprint,
        "root": own.root.hex(),
        "default": default,
        "personal": own.personal,
        "has_root_key": own.root_key is not None,
        "user": own.user,
        "addresses": list(own.addresses),
        "invitation": {
            "serial": invitation.serial,
            "user": invitation.user,
            "rights": list(invitation.rights),
            "issued_s": invitation.issued_s,
            "expires_s": invitation.expires_s,
        },
        "nodes": [
            {
                "name": each.name,
                "id": each.certificate.node,
                "host": each.certificate.host,
                "user": each.certificate.user,
                "rights": list(each.certificate.rights),
                "serial": each.certificate.serial,
                "invitation": each.certificate.invitation,
                "issued_s": each.certificate.issued_s,
                "expires_s": each.certificate.expires_s,
                "fault": each.fault,
            }
            for each in certified_nodes(own)
        ],
    }
