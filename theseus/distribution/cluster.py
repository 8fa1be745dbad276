"""Reads the workers of a training on several machines from TF_CONFIG; without TensorFlow.

Source: https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable
"""

from __future__ import annotations

import json
import re
import socket
from typing import Any, Mapping, NamedTuple

from theseus.errors import UserError

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
_ROLES = ("chief", "worker")


class Cluster(NamedTuple):
    """The workers; the first one is the chief.

    Attributes:
      addresses: host:port of each.
      rank: the index of this process among them.
      role, index: this process's role and index in TF_CONFIG.
    """

    addresses: list[str]
    rank: int
    role: str
    index: int

    @property
    def port(self) -> int:
        """The port on which this process listens."""
        return int(self.addresses[self.rank].rpartition(":")[2])


def read_cluster(environment: Mapping[str, str]) -> Cluster:
    """Returns the Cluster of TF_CONFIG.

    Raises:
      UserError: there is none, or its content is invalid.
    """
    text = environment.get("TF_CONFIG", "")
    if not text:
        raise UserError(
            "TF_CONFIG: is not set; --distribution=multi_worker needs it, such as %s" % _EXAMPLE
        )
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            "TF_CONFIG: is not valid JSON: %s; it must look like %s" % (error, _EXAMPLE)
        )
    cluster, task = (_object(config, name) for name in ("cluster", "task"))
    foreign = sorted(set(cluster) - set(_ROLES))
    if foreign:
        raise UserError("TF_CONFIG: cluster: expected only chief and worker, found %s" % foreign[0])
    addresses = {role: _addresses(cluster.get(role, []), role) for role in _ROLES}
    everyone = addresses["chief"] + addresses["worker"]
    if len(addresses["chief"]) > 1:
        raise UserError("TF_CONFIG: cluster: expected at most one chief")
    if len(set(everyone)) < len(everyone):
        raise UserError("TF_CONFIG: cluster: an address occurs twice")
    role, index = task.get("type"), task.get("index")
    if not isinstance(role, str) or role not in _ROLES or not addresses[role]:
        raise UserError("TF_CONFIG: task: the type %r is not in the cluster" % (role,))
    if isinstance(index, bool) or not isinstance(index, int):
        raise UserError("TF_CONFIG: task: the index %r is not a whole number" % (index,))
    if not 0 <= index < len(addresses[role]):
        raise UserError(
            "TF_CONFIG: task: the cluster has %d of type %s, numbered from 0; there is no index %d"
            % (len(addresses[role]), role, index)
        )
    return Cluster(everyone, everyone.index(addresses[role][index]), role, index)


def _object(config: Any, name: str) -> dict[str, Any]:
    value = config.get(name) if isinstance(config, dict) else None
    if not isinstance(value, dict):
        raise UserError("TF_CONFIG: holds no object %s; it must look like %s" % (name, _EXAMPLE))
    return value


def _addresses(addresses: Any, role: str) -> list[str]:
    if not isinstance(addresses, list):
        raise UserError("TF_CONFIG: cluster: %s is not a list of addresses" % role)
    for address in addresses:
        match = re.match(r"(\S+):([0-9]{1,5})$", address) if isinstance(address, str) else None
        if not match or not 0 < int(match.group(2)) < 1 << 16:
            raise UserError(
                "TF_CONFIG: cluster: expected an address host:port, found %r" % (address,)
            )
    return addresses


def check_used_port(cluster: Cluster) -> None:
    """Raises UserError if another program already listens on this process's port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", cluster.port))
        except OSError as error:
            raise UserError(
                "TF_CONFIG: %s, this worker's address, cannot be used: %s; stop the program "
                "that uses it, or give another port"
                % (cluster.addresses[cluster.rank], error.strerror)
            )
