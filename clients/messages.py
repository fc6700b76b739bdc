"""Which messages a client answers with an update, what it may answer to any other, and what its errors may say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MessageType
from flwr.common.constant import ErrorCode

CallNext = Callable[[Message, Context], Message]
T = TypeVar("T")

PERSONALIZE = "personalize"
TRAINING = (MessageType.TRAIN, f"{MessageType.TRAIN}.default")  # Flower's two names for the same function
# What passes protections untouched: a client's number, and personalising, which answers with a count of rounds.
_HARMLESS = (MessageType.QUERY, f"{MessageType.QUERY}.default", f"{MessageType.TRAIN}.{PERSONALIZE}")
FAILED = "training failed on this client"
_STATE, _ROUND = "answered", "server-round"


class PublicError(Exception):
    """An error of a client whose text may reach the server: it holds nothing about the client's records."""


class RefusedMessageError(PublicError):
    """A message that a protected client does not answer."""


class AnsweredRoundError(PublicError):
    """A round that the client has answered already, or one before it."""


class TrainingFailedError(PublicError):
    """What the server reads instead of an exception of the training's own."""


def errors_as_replies(message: Message, context: Context, call_next: CallNext) -> Message:
    """A Flower mod, the outermost one: what is raised leaves as the error in a reply.

    Flower takes a client's state back together with its reply. On Ray it forgets the state of an app that raises: a
    round in which training failed would count for nothing, and could be asked for again.
    """
    try:
        return call_next(message, context)
    except Exception as error:
        logging.getLogger(__name__).info("this client failed", exc_info=error)
        text = f"{type(error).__name__}: {error}"
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, text), reply_to=message)


def is_training(message: Message) -> bool:
    """Whether the message asks for an update: `train` and `train.default`, which Flower gives to the same function."""
    return message.metadata.message_type in TRAINING


def without_update(message: Message, context: Context, call_next: CallNext) -> Message:
    """Pass on a message that does not ask for an update, for a mod that protects updates.

    Only the message types in `_HARMLESS` get through, and only with replies of single numbers: evaluating on a client's
    records, for one, would tell their loss, which no mod protects and no budget counts.

    Raises:
        RefusedMessageError: any other message type; or the reply holds arrays, lists, text or bytes.
        TrainingFailedError: what answers it raised something.
    """
    kind = message.metadata.message_type
    if kind not in _HARMLESS:
        raise RefusedMessageError(
            f"message type '{kind}': a protected client answers {', '.join((*TRAINING, *_HARMLESS))} and nothing else"
        )
    reply = answered_quietly(message, context, call_next)
    if reply.has_content():
        records = reply.content
        values = [value for record in records.metric_records.values() for value in record.values()]
        if records.array_records or records.config_records or not all(isinstance(v, int | float) for v in values):
            raise RefusedMessageError(
                f"the reply to '{kind}' holds more than single numbers, so it stays on the client"
            )
    return reply


def server_round(message: Message) -> int:
    """The round that a message belongs to. Raises RefusedMessageError where it names none."""
    number = message.content.config_records.get("config", ConfigRecord()).get(_ROUND)
    if type(number) is not int:
        raise RefusedMessageError(f"'{message.metadata.message_type}' without an integer config.server-round")
    return number


def sent_weights(message: Message) -> ArrayRecord:
    """The weights that a message asks to train on, which an update is the difference to.

    Raises:
        RefusedMessageError: it brings none, or a second record of arrays: an update taken from other weights than were
            trained on could be made to fit, or not, by how training went.
    """
    records = list(message.content.array_records.values())
    if len(records) != 1:
        raise RefusedMessageError(f"{len(records)} records of arrays: a client trains on one, and takes no other")
    return records[0]


def answer_once(context: Context, purpose: str, number: int) -> None:
    """Note in the client's own state that it answers this round, before it does; so it stays noted if that fails.

    The noise of a round follows from its number: two answers would carry the same noise, and their difference none.

    Raises:
        AnsweredRoundError: this round, or a later one, was answered before.
    """
    last = last_answered(context, purpose)
    if last is not None and number <= last:
        raise AnsweredRoundError(
            f"round {number} for {purpose}: this client has answered round {last}, and answers each round once, in "
            "rising order"
        )
    answered = context.state.config_records.get(_STATE, ConfigRecord())
    context.state[_STATE] = ConfigRecord({**answered, purpose: number})


def last_answered(context: Context, purpose: str) -> int | None:
    """The last round that the client answered for this purpose, or None."""
    last = context.state.config_records.get(_STATE, ConfigRecord()).get(purpose)
    return last if isinstance(last, int) else None


def answered_quietly(message: Message, context: Context, call_next: CallNext) -> Message:
    """The reply to a message, of whose failure the server learns that it failed and nothing else.

    Raises:
        PublicError: as `call_next` raises it; TrainingFailedError for any other exception.
    """
    reply = failing_quietly(lambda: call_next(message, context))
    return Message(Error(reply.error.code, FAILED), reply_to=message) if reply.has_error() else reply


def failing_quietly(call: Callable[[], T]) -> T:
    """What `call`, which touches the client's records, returns. The text of an exception stays on the client.

    Raises:
        PublicError: as `call` raises it.
        TrainingFailedError: for any other exception of `call`; it holds the exception's name and nothing more.
    """
    try:
        return call()
    except PublicError:
        raise
    except Exception as error:
        logging.getLogger(__name__).info("training failed on this client", exc_info=error)
        name = type(error).__name__
    raise TrainingFailedError(f"{FAILED}: {name}; what it says stays on the client")
