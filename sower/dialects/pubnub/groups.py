"""Channel groups, under `/v1/channel-registration/sub-key/{sub}/channel-group`."""

from __future__ import annotations

from functools import partial

from sower.core.message import check_channel_name
from sower.core.polling import ChangeGroup, DeleteGroup, Places, ReadGroup
from sower.dialects.interface import Asked, HttpCall, Reply
from sower.dialects.pubnub.asking import read_credentials, split_names
from sower.dialects.pubnub.keys import Keys
from sower.dialects.pubnub.words import say
from sower.errors import BadChannelName

FINE = {"status": 200, "message": "OK", "service": "channel-registry", "error": False}


def decode_group(keys: Keys, call: HttpCall) -> Asked:
    """GET /{group}: its channels; with add= or remove= it is changed. Raises BadChannelName."""
    group = check_channel_name(call.params["group"])
    if "," in group or ":" in group:
        raise BadChannelName("A group's name holds no comma and no colon.")
    add, remove = split_names(call.query.get("add", "")), split_names(call.query.get("remove", ""))
    if any(name.endswith(".*") for name in add):
        raise BadChannelName("A wildcard cannot be in a group.")
    if add or remove:
        return Asked(read_credentials(keys, call), ChangeGroup(group, add, remove), _fine)
    return Asked(read_credentials(keys, call), ReadGroup(group), partial(_channels_reply, group))


def decode_groups(keys: Keys, call: HttpCall) -> Asked:
    """GET: the names of all groups."""
    return Asked(read_credentials(keys, call), ReadGroup(None), partial(_groups_reply, call.params["sub"]))


def decode_delete(keys: Keys, call: HttpCall) -> Asked:
    """GET /{group}/remove."""
    return Asked(read_credentials(keys, call), DeleteGroup(check_channel_name(call.params["group"])), _fine)


def _fine(answer: object) -> Reply:
    return say(FINE)


def _channels_reply(group: str, answer: Places) -> Reply:
    return say({**FINE, "payload": {"group": group, "channels": answer.names}})


def _groups_reply(key: str, answer: Places) -> Reply:
    return say({**FINE, "payload": {"groups": answer.names, "sub_key": key}})
