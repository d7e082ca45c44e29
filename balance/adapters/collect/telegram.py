"""Messages that reach your bot on Telegram: the Bot API, getUpdates.

Source: https://core.telegram.org/bots/api#getupdates.  A bot sees the channels and groups that it is a member of, and
nothing else; Telegram keeps for a day what was not confirmed.  Reading confirms nothing, so a request can be made
again; the requester confirms with ``offset`` when it has what it read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from balance.adapters.collect.collected import Collected
from balance.adapters.collect.visit import Visit
from balance.errors import ConfigurationError, SourceUnavailable
from balance.types import check_int

if TYPE_CHECKING:
    from balance.adapters.collect.fetcher import Fetcher
    from balance.adapters.collect.wanted import Wanted

URL = "https://api.telegram.org"


class TelegramSource:
    """Serves TELEGRAM.

    Parameters
    ----------
    client : Fetcher
    token : str
        Of your bot.
    url : str
        Of the API.

    Notes
    -----
    The query is the chat: ``@name``, its number, or ``*`` for all that the bot sees.  Parameters of a request:
    ``offset`` (an update's number: those before it are confirmed and gone), ``limit`` (100, at most 100).

    Items, oldest first: ``update_id``, ``chat``, ``chat_id``, ``message_id``, ``date`` (POSIX seconds), ``text``.
    """

    def __init__(self, client: Fetcher, *, token: str = "", url: str = URL) -> None:
        self._client = client
        self._token = token
        self._url = url

    def collect(self, wanted: Wanted) -> Collected:
        """As `Source.collect`."""
        if not self._token:
            raise ConfigurationError("Telegram needs the token of your bot: set BALANCE_TELEGRAM_TOKEN")
        params: dict[str, str | int] = {
            "limit": wanted.count("limit", 100, maximum=100),
            "allowed_updates": '["message","channel_post"]',
        }
        if "offset" in wanted.parameters:
            params["offset"] = check_int("parameters.offset", wanted.parameters["offset"], minimum=0)
        visit = Visit(self._client, wanted)
        # Never from the cache: the same question has other messages a second later.
        address = f"{self._url}/bot{self._token}/getUpdates"
        answer = visit.get(address, params=params, secret=self._token, trusted=True, max_age_s=0.0).json()
        if not isinstance(answer, dict) or answer.get("ok") is not True:
            raise SourceUnavailable(f"Telegram did not answer with messages: {str(answer)[:300]}")
        items = [_item(update) for update in answer.get("result", [])]
        chat = wanted.query.strip().removeprefix("@").casefold()
        return visit.collected(
            [one for one in items if chat in ("*", str(one["chat_id"]), str(one["chat"] or "").casefold())]
        )


def _item(update: dict[str, Any]) -> dict[str, Any]:
    message = update.get("channel_post") or update.get("message") or {}
    chat = message.get("chat", {})
    return {
        "update_id": update.get("update_id"),
        "chat": chat.get("username"),
        "chat_id": chat.get("id"),
        "message_id": message.get("message_id"),
        "date": message.get("date"),
        "text": message.get("text") or message.get("caption") or "",
    }
