"""Every error that Sower tells anybody, in one tree.

An error carries its own policy, so that no handler decides it anew:

  code    a stable name, what programs compare (`sower explain CODE` prints the rest)
  text    one sentence for a person
  status  the HTTP status of a refused request (RFC 9110 section 15)
  close   the WebSocket close code of a refused socket (RFC 6455 section 7.4)
  retry   whether the same request may succeed later without a change
  hint    what to do about it

Close codes of our own: 4000-4499 mean "reconnect, with backoff", 4500-4999 mean "do not reconnect
before something was changed" (the ranges that Centrifugo's clients follow too).

    SowerError
      BadRequest            malformed input of any kind
        BadChannelName  BadEvent  BadJson  BadPosition  BadFrame  BadUpgrade  BadParameter  BadData
        BadFilter  BadGrant  AlreadyThere  NoProtocol  UnknownProtocol  BadVersion
      NotAuthorised         no credential, or one that proves nothing
        UnknownKey  BadToken  TokenExpired  WrongSecret
        BadSignature  StaleRequest  RequestRepeated  TokenRevoked
      Forbidden             a good credential that does not allow this
        NamesForbidden  OriginRefused  NotSameOrigin  UserMismatch  NoUser  NeedsKey  UserTerminated  AppDisabled
        ClientEventsOff  HistoryOff  PresenceOff  NotIdentified  OwnsNothing  ChangesOff
      NotFound  NoSuchMessage  NotSpoken  MethodNotAllowed  Finished
      TooLarge              BodyTooLarge  MessageTooLarge  HeadersTooLarge  UriTooLong
      TooMany               RateLimited  EventsTooFast  TooManyConnections  AppFull  WatchlistTooLong  ChannelBusy
      TooSlow               HandshakeTimeout  RequestTimeout  NoPong  SlowConsumer
      Unavailable           Draining  Kicked  ChannelQuarantined  JournalFailed
      ConfigError  StoreError  AddressInUse  DaemonUnreachable     (told on the terminal)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class SowerError(Exception):
    """Base of the tree. `detail` says what and where; the class says the rest.

    retry_after: seconds until a retry makes sense, where that is known.
    """

    code: ClassVar[str] = "internal_error"
    text: ClassVar[str] = "Something went wrong inside the daemon."
    status: ClassVar[int] = 500
    close: ClassVar[int] = 1011
    retry: ClassVar[bool] = True
    hint: ClassVar[str] = "Try again; if it stays, look at the daemon's log and report it."

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(detail or self.text)
        self.detail = detail
        self.retry_after = retry_after

    @property
    def message(self) -> str:
        """The detail where there is one, else the text of the class."""
        return self.detail or self.text

    def as_dict(self) -> dict[str, object]:
        """The JSON shape of an error, the same over HTTP and in an `error` frame."""
        shape: dict[str, object] = {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retry": self.retry,
        }
        if self.retry_after is not None:
            shape["retry_after"] = round(self.retry_after, 3)
        return shape


class BadRequest(SowerError):
    code = "bad_request"
    text = "The request is malformed."
    status = 400
    close = 4500
    retry = False
    hint = "Mend the request: the message says which part is wrong."


class BadChannelName(BadRequest):
    code = "bad_channel_name"
    text = "The channel name is not allowed."
    close = 4501
    hint = "A channel name is 1 to 256 bytes of UTF-8 without control characters, percent-encoded in a path."


class BadEvent(BadRequest):
    code = "bad_event"
    text = "The event name is not allowed."
    hint = "An event name is 1 to 200 bytes of UTF-8 without control characters."


class BadJson(BadRequest):
    code = "bad_json"
    text = "The body is not the JSON that was expected."
    hint = "Send one JSON document with the fields that the manual names."


class BadPosition(BadRequest):
    code = "bad_position"
    text = "The position is not one that this daemon gave."
    hint = "Send the position of a welcome or an event back as it came: EPOCH:SERIAL, or a serial of 1 to 17 digits."


class BadFrame(BadRequest):
    code = "bad_frame"
    text = "The frame is not one of this protocol."
    close = 4502
    hint = "Send a JSON text frame with a `type` of publish, presence, token or ping."


class BadParameter(BadRequest):
    code = "bad_parameter"
    text = "A parameter has a value that is not one of its own."
    hint = "Mend the parameter that the message names, or leave it out."


class BadData(BadRequest):
    code = "bad_data"
    text = "The data is not what its encoding says."
    hint = "Send data that is what its encoding says, or leave the encoding out."


class BadUpgrade(BadRequest):
    code = "bad_upgrade"
    text = "This route speaks WebSocket, and the request is no WebSocket handshake."
    status = 426
    hint = "Connect with a WebSocket client (RFC 6455, version 13), for example `sower tail CHANNEL`."


class BadFilter(BadRequest):
    code = "bad_filter"
    text = "The filter expression cannot be read."
    hint = "Mend it where the message says; sower-pubnub(7) has the language."


class BadGrant(BadRequest):
    code = "bad_grant"
    text = "The token that is asked for cannot be made."
    hint = "Mend the part of the permissions that the message names."

    def __init__(self, detail: str = "", *, where: str = "permissions") -> None:
        super().__init__(detail)
        self.where = where


class AlreadyThere(BadRequest):
    code = "already_there"
    text = "This is there already."
    status = 409
    hint = "Nothing needs to be done."


class NoProtocol(BadRequest):
    code = "no_protocol"
    text = "The client does not say which version of its protocol it speaks."
    close = 4503
    hint = "Connect with ?protocol=7, as pusher-js does; 5 to 7 are spoken."


class UnknownProtocol(BadRequest):
    code = "unknown_protocol"
    text = "This version of the protocol is not spoken."
    close = 4503
    hint = "Upgrade the client's SDK: Pusher's protocols 5 to 7 are spoken."


class BadVersion(BadRequest):
    code = "bad_version"
    text = "The version of the client's SDK cannot be read."
    close = 4503
    hint = "Send the SDK's version as it is, for example version=8.6.0, or leave it out."


class NotAuthorised(SowerError):
    code = "not_authorised"
    text = "This needs a credential."
    status = 401
    close = 4510
    retry = False
    hint = "Send a token (`sower token CHANNEL`) as token= or as Bearer, or a server's key:secret as Basic."


class UnknownKey(NotAuthorised):
    code = "unknown_key"
    text = "No app has this key."
    close = 4511
    hint = "Compare the key with [[apps]] in the config; `sower config show` lists the keys."


class BadToken(NotAuthorised):
    code = "bad_token"
    text = "The token proves nothing."
    close = 4512
    hint = "Mint it with the app's current secret (HS256, `kid` = key, `exp` set); `sower token inspect` explains one."


class WrongSecret(NotAuthorised):
    code = "wrong_secret"
    text = "The secret is not the one of this key."
    close = 4513
    hint = "Use the app's secret from the config; a retired secret no longer counts."


class BadSignature(NotAuthorised):
    code = "bad_signature"
    text = "The signature proves nothing."
    close = 4514
    hint = "Sign with the app's current secret, and exactly the text that the message quotes; look at the clock too."


class StaleRequest(BadSignature):
    code = "stale_request"
    text = "The signed request is too old, or from the future."
    hint = "Set the clock of the machine that signs, and sign shortly before sending."


class RequestRepeated(BadSignature):
    code = "request_repeated"
    text = "This signed request was used already."
    hint = "Sign a new request, with a nonce of its own, for each token."


class TokenExpired(NotAuthorised):
    code = "token_expired"
    text = "The token has expired."
    close = 4001
    hint = "Get a new token and reconnect with it, or send it in a `token` frame before the old one ends."


class TokenRevoked(NotAuthorised):
    code = "token_revoked"
    text = "The token was revoked."
    close = 4002
    hint = "Get a new token and connect with it."


class Forbidden(SowerError):
    code = "forbidden"
    text = "The credential does not allow this."
    status = 403
    close = 4520
    retry = False
    hint = "Mint a token whose `channels` claim covers this channel with the capability that the message names."


class OriginRefused(Forbidden):
    code = "origin_refused"
    text = "Pages of this origin may not connect."
    close = 4521
    hint = "Add the origin to server.origins in the config."


class NotSameOrigin(Forbidden):
    code = "not_same_origin"
    text = "The dashboard answers its own pages alone."
    hint = "Open /dashboard itself; a proxy in front must pass the Host header on as it came."


class NamesForbidden(Forbidden):
    code = "names_forbidden"
    text = "The credential does not allow this on all that was named."
    hint = "Leave the named channels and groups out, or get a token that covers them."

    def __init__(self, detail: str = "", *, channels: Sequence[str] = (), groups: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.channels = tuple(channels)
        self.groups = tuple(groups)


class UserMismatch(Forbidden):
    code = "user_mismatch"
    text = "The credential does not speak for this user."
    close = 4522
    hint = "Leave user= out, or mint the token with `--user` for the user that connects."


class UserTerminated(Forbidden):
    code = "user_terminated"
    text = "A server ended all connections of this user."
    close = 4526
    hint = "Do not reconnect; the user's session was ended on purpose."


class AppDisabled(Forbidden):
    code = "app_disabled"
    text = "The app is switched off."
    close = 4527
    hint = "Set enabled = true in its [[apps]] table."


class NoUser(Forbidden):
    code = "no_user"
    text = "This needs a client that says who it is."
    hint = "Connect as a user, or with a token for one."


class NotIdentified(NoUser):
    code = "not_identified"
    text = "Annotations of this kind are counted by client, and this one does not say who it is."


class OwnsNothing(NoUser):
    code = "owns_nothing"
    text = "The credential allows changes to one's own messages, and a client without a user has none."
    hint = "Connect as a user, or get a token that allows changes to any message."


class TooManyRevoked(Forbidden):
    code = "too_many_revoked"
    text = "There are as many revocations as are remembered."
    hint = "Sign tokens with another key, and take this one out of the config: that ends all of its tokens."


class NeedsKey(Forbidden):
    code = "needs_key"
    text = "Only who shows a key itself may do this."
    hint = "Show the key as Basic, and no token."


class ClientEventsOff(Forbidden):
    code = "client_events_off"
    text = "Clients may not publish on this channel."
    close = 4523
    hint = "Set client_events = true in the channel's rule and in its app, or publish from a server over HTTP."


class ModeNotAsked(Forbidden):
    code = "mode_not_asked"
    text = "The client follows this channel without asking for this."
    hint = "Attach the channel with this mode too, or with no modes for all of them."


class HistoryOff(Forbidden):
    code = "history_off"
    text = "This channel keeps no history."
    close = 4524
    hint = 'Add history = {messages = 100, age = "72h"} to the [[channels]] rule that matches it.'


class ChangesOff(HistoryOff):
    code = "changes_off"
    text = "Messages of this channel cannot be changed or annotated, because it keeps none."


class PresenceOff(Forbidden):
    code = "presence_off"
    text = "This channel has no presence."
    close = 4525
    hint = "Add presence = true to the [[channels]] rule that matches it, or name it presence-..."


class NotFound(SowerError):
    code = "not_found"
    text = "There is nothing at this address."
    status = 404
    close = 4504
    retry = False
    hint = "Compare the name with those that there are, and a path with the routes in sower(1)."


class Finished(SowerError):
    code = "finished"
    text = "The client asked to be closed."
    status = 400
    close = 4530
    retry = False
    hint = "Nothing is wrong."


class NoSuchMessage(NotFound):
    code = "no_such_message"
    text = "The channel has no such message, or has it no longer."
    hint = "Show the `serial` of a message that the channel's history still has."


class NotSpoken(NotFound):
    code = "not_spoken"
    text = "Sower does not do this part of the vendor's protocol."
    hint = "sower-pubnub(7) lists what is spoken and what is not."


class MethodNotAllowed(SowerError):
    code = "method_not_allowed"
    text = "This address does not take this method."
    status = 405
    close = 4505
    retry = False
    hint = "Use one of the methods in the Allow header."

    def __init__(self, detail: str = "", *, allow: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.allow = tuple(allow)


class TooLarge(SowerError):
    code = "too_large"
    text = "This is larger than the limit."
    status = 413
    close = 1009
    retry = False
    hint = "Send less, or raise the limit that the message names."


class BodyTooLarge(TooLarge):
    code = "body_too_large"
    text = "The body is larger than server.max_body."
    hint = "Send less at once, or raise server.max_body."


class MessageTooLarge(TooLarge):
    code = "message_too_large"
    text = "The message is larger than limits.message."
    hint = "Send a reference to the data in place of the data, or raise limits.message."


class HeadersTooLarge(TooLarge):
    code = "headers_too_large"
    text = "The request's head is larger than server.max_head."
    status = 431
    hint = "Send fewer or shorter headers, or raise server.max_head."


class UriTooLong(TooLarge):
    code = "uri_too_long"
    text = "The request's target is longer than server.max_uri."
    status = 414
    hint = "Shorten the path or the query, or raise server.max_uri."


class TooMany(SowerError):
    code = "too_many"
    text = "This is more than the limit allows."
    status = 429
    close = 4030
    hint = "Wait as long as Retry-After says, then go on more slowly."


class RateLimited(TooMany):
    code = "rate_limited"
    text = "Too many requests in too short a time."
    close = 4031
    hint = "Wait as long as Retry-After says, or raise the limit in [limits] that the message names."


class EventsTooFast(RateLimited):
    code = "events_too_fast"
    text = "This client publishes faster than it may."
    hint = "Publish more slowly, put several events into one, or raise limits.client_events."


class TooManyConnections(TooMany):
    code = "too_many_connections"
    text = "The number of connections is at its limit."
    status = 503
    close = 4032
    hint = "Close connections, or raise limits.connections or limits.connections_per_address."


class AppFull(TooManyConnections):
    code = "app_full"
    text = "The app has as many connections as it may have."
    close = 4034
    hint = "Close connections, or raise connections in its [[apps]] table."


class TooManyChannels(TooMany):
    code = "too_many_channels"
    text = "The number of channels with somebody on them is at its limit."
    status = 503
    close = 4035
    hint = "Try again later, leave channels, or raise limits.channels."


class WatchlistTooLong(TooMany):
    code = "watchlist_too_long"
    text = "The watchlist has more users than the limit allows; the first are watched."
    hint = "Watch fewer users, or raise watchlist in [apps.pusher]."


class ChannelBusy(TooMany):
    code = "channel_busy"
    text = "More is waiting on this channel than it takes."
    status = 503
    close = 4033
    hint = "Try again shortly; a channel takes limits.channel_queue commands at a time."


class TooSlow(SowerError):
    code = "too_slow"
    text = "This took longer than the limit."
    status = 408
    close = 4040
    hint = "Try again on a new connection."


class HandshakeTimeout(TooSlow):
    code = "handshake_timeout"
    text = "The request's head did not arrive in time."
    close = 4041
    hint = "Send the whole head within server.head_timeout."


class RequestTimeout(TooSlow):
    code = "request_timeout"
    text = "The request's body did not arrive in time."
    close = 4042
    hint = "Send the whole body within server.body_timeout."


class MessageTimeout(TooSlow):
    code = "message_timeout"
    text = "A message that was begun did not arrive in time."
    close = 4045
    hint = "Reconnect; send each whole message within session.message_within."


class NoPong(TooSlow):
    code = "no_pong"
    text = "No answer came to a ping."
    close = 4043
    hint = "Reconnect; answer pings within session.pong_within."


class SlowConsumer(TooSlow):
    code = "slow_consumer"
    text = "The client reads more slowly than the channel speaks."
    close = 4044
    hint = "Reconnect with since= to get what was missed; raise session.backlog for bursts."


class Unavailable(SowerError):
    code = "unavailable"
    text = "The daemon cannot do this now."
    status = 503
    close = 1013
    hint = "Try again shortly."


class Draining(Unavailable):
    code = "draining"
    text = "The daemon is shutting down."
    close = 1012
    hint = "Reconnect with backoff; another or the restarted daemon answers."


class Kicked(Unavailable):
    code = "kicked"
    text = "An operator closed this connection."
    close = 4002
    hint = "Reconnect; the connection was closed on purpose, and its credential is as good as before."


class ChannelQuarantined(Unavailable):
    code = "channel_quarantined"
    text = "The channel failed too often and rests for a while."
    hint = "Look for `channel_quarantined` in `sower audit`, which says why; other channels are not touched."


class JournalFailed(Unavailable):
    code = "journal_failed"
    text = "The journal could not be written or read; a message was not accepted."
    hint = "Look at disk space and permissions of store.path; publish again with the same id."


class ClusterFailed(JournalFailed):
    code = "cluster_failed"
    text = "The Redis that this daemon shares with others cannot be reached, or does not accept it."
    hint = "Publish again with the same id, reconnect with since=; sower-cluster.7 says what Redis needs."


class ConfigError(SowerError):
    code = "bad_config"
    text = "The config is not valid."
    status = 500
    retry = False
    hint = "Mend what the message names; `sower config check` reads the config again."


class StoreError(SowerError):
    code = "bad_store"
    text = "The database cannot be used."
    retry = False
    hint = "Check store.path: it must be a writable SQLite file of this version of Sower or an older one."


class AddressInUse(SowerError):
    code = "address_in_use"
    text = "Another process listens at this address."
    retry = False
    hint = "Stop the other process, or choose another server.listen."


class DaemonUnreachable(SowerError):
    code = "daemon_unreachable"
    text = "No daemon answers at this address."
    hint = "Start one with `sower serve`, or name it with --url or SOWER_URL."


def tree() -> dict[str, type[SowerError]]:
    """Every error by its code, in the order of the tree."""
    found: dict[str, type[SowerError]] = {}

    def visit(error: type[SowerError]) -> None:
        found[error.code] = error
        for child in error.__subclasses__():
            visit(child)

    visit(SowerError)
    return found
