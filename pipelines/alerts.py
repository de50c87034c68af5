"""Telling people when a job of the warehouse fails, and when it runs well again: one message of each per incident.

An incident is one job failing with one error code, from the first such failure to the next good run. It is kept in
`incidents.json` in the warehouse's folder, so the command line and Dagster share it and a restart repeats nothing.

Where messages go is one setting, DINGHUO_ALERT_URLS: addresses with spaces between them.

    https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=…          企业微信
    https://oapi.dingtalk.com/robot/send?access_token=…#SEC…        钉钉; after # the secret of 加签
    https://open.feishu.cn/open-apis/bot/v2/hook/…#…                飞书; after # the secret of 签名校验
    https://hooks.slack.com/services/…                              Slack
    mailto:ops@example.com                                          mail, through DINGHUO_SMTP_HOST
    https://anything.else/path                                      the facts as JSON

`wecom+`, `dingtalk+`, `feishu+`, `slack+` or `json+` in front of an address says what it is where its host does not.
What follows # is never sent.
"""

import base64
import fcntl
import hashlib
import hmac
import json
import os
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

import duckdb

from pipelines.warehouse import read
from pipelines.warehouse.errors import WarehouseError, WarehouseMissing
from pipelines.warehouse.read import Publication

KINDS = ("wecom", "dingtalk", "feishu", "slack", "json")
HOSTS = {
    "qyapi.weixin.qq.com": "wecom",
    "oapi.dingtalk.com": "dingtalk",
    "open.feishu.cn": "feishu",
    "open.larksuite.com": "feishu",
    "hooks.slack.com": "slack",
}
TIMEOUT_SECONDS = 5.0
PAUSES_SECONDS = (0.5, 2.0)  # before the second and the third attempt
MAX_BYTES = 2000  # 企业微信 takes 2048 bytes of text, and a telephone shows less
INCIDENTS = "incidents.json"

NEXT = {
    "E_CHECKS_FAILED": (
        "correct the rows named above ('dinghuo verify' looks at the orders), then: dinghuo run {job}",
        "修正上面列出的数据（dinghuo verify 可检查订单库），然后运行：dinghuo run {job}",
    ),
    "E_SOURCE_DIFFERS": (
        "read everything again: dinghuo run daily --full",
        "重新全量读取：dinghuo run daily --full",
    ),
    "E_SOURCE": (
        "see whether the order database answers: dinghuo doctor; then: dinghuo run {job}",
        "先确认订单数据库可用：dinghuo doctor，然后运行：dinghuo run {job}",
    ),
    "E_BUILD_FAILED": (
        "see whether the disk is full ('dinghuo warehouse generations' shows what lies there), then: dinghuo run {job}",
        "检查磁盘空间（dinghuo warehouse generations 可查看各版大小），然后运行：dinghuo run {job}",
    ),
}
OTHERWISE = (
    "look at the log of run {run_id}, then: dinghuo run {job}",
    "查看任务 {run_id} 的日志，然后运行：dinghuo run {job}",
)
"""What a person does next, by error code; {job} and {run_id} are filled in."""


class WrongAlertAddress(WarehouseError):
    """DINGHUO_ALERT_URLS holds something no message can be sent to. The address is not repeated: it may be a secret."""

    code = "E_CONFIG"
    exit_code = 2
    en = "setting DINGHUO_ALERT_URLS: address {place} {problem}"
    zh = "设置 DINGHUO_ALERT_URLS：第 {place} 个地址{problem_zh}"


@dataclass(frozen=True)
class MailServer:
    """Where mail goes out. `security` is `starttls`, `tls` (from the first byte) or `none`."""

    host: str
    port: int = 587
    security: str = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    sender: str = "orders@localhost"


@dataclass(frozen=True)
class Address:
    """One place messages go to: `kind` is one of `KINDS` or `mail`; `target` a URL or a mail address."""

    kind: str
    target: str = field(repr=False)  # a webhook's URL is its password
    secret: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """What may be shown and kept: the kind, the host, and a fingerprint instead of the key."""
        fingerprint = hashlib.sha256(self.target.encode()).hexdigest()[:8]
        host = self.target.rpartition("@")[2] if self.kind == "mail" else urlsplit(self.target).hostname
        return f"{self.kind}:{host}:{fingerprint}"


@dataclass(frozen=True)
class Failure:
    """A job that ended badly.

    Attributes:
        job: `daily`, `refresh` or `backfill`, as `dinghuo run` names it.
        code: Of the error, such as E_CHECKS_FAILED; the class's name where an error has no code.
        en, zh: What failed, in a sentence.
        at: When it ended.
        run_id: The run, to be found in logs.
    """

    job: str
    code: str
    en: str
    zh: str
    at: datetime
    run_id: str


@dataclass(frozen=True)
class Message:
    """What a person gets, and the same as facts for a program."""

    title: str
    what: str
    lines: tuple[str, ...]
    facts: dict[str, Any]

    @property
    def text(self) -> str:
        """Title, what happened, and the lines after it. What happened is cut where a channel would refuse the whole."""
        room = MAX_BYTES - len("\n".join([self.title, "", *self.lines]).encode())
        what = self.what.encode()
        cut = self.what if len(what) <= room else what[: max(room - 3, 0)].decode(errors="ignore") + "…"
        return "\n".join([self.title, cut, *self.lines])


def addresses(setting: str, *, mail_server: MailServer | None) -> list[Address]:
    """The addresses of DINGHUO_ALERT_URLS, in order.

    Raises:
        WrongAlertAddress: One of them is no address; it is named by its place, not by its text.
    """
    found = []
    for place, word in enumerate(setting.split(), start=1):

        def wrong(problem: str, problem_zh: str, place: int = place) -> WrongAlertAddress:
            return WrongAlertAddress(place=place, problem=problem, problem_zh=problem_zh)

        named, plus, rest = word.partition("+")
        kind, url = (named, rest) if plus and named in KINDS else ("", word)
        if url.startswith("mailto:"):
            mailbox = url.removeprefix("mailto:")
            if mailbox.count("@") != 1 or not mailbox.isascii() or not mailbox.isprintable():
                raise wrong("is no mail address", "不是有效的邮箱地址")
            if mail_server is None:
                raise wrong("is a mail address, which needs DINGHUO_SMTP_HOST", "是邮箱，需要先设置 DINGHUO_SMTP_HOST")
            found.append(Address("mail", mailbox))
            continue
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise wrong(
                f"is neither mailto: nor http(s)://, nor one of {', '.join(KINDS)} with + before it",
                f"既不是 mailto： 也不是 http（s）：//，也没有 {'、'.join(KINDS)} 加 + 的前缀",
            )
        target = urlunsplit(parts._replace(fragment=""))
        found.append(Address(kind or HOSTS.get(parts.hostname, "json"), target, parts.fragment))
    return found


class Alerts:
    """Tells every address once that an incident began, and once that it is over."""

    def __init__(
        self,
        to: list[Address],
        *,
        warehouse_dir: Path,
        zone: str,
        language: str,
        mail_server: MailServer | None = None,
        now: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`language` is "zh" or "en"; times are written in `zone`."""
        self._to = to
        self._dir = warehouse_dir
        self._zone = ZoneInfo(zone)
        self._language = language
        self._mail_server = mail_server
        self._now = now
        self._sleep = sleep

    def failed(self, failure: Failure) -> list[str]:
        """Tell who has not been told of this incident yet.

        Returns:
            What could not be sent, a sentence each, for stderr. Such an address is tried again at the next failure.
        """
        if not self._to:
            return []
        with self._incidents() as (open_incidents, problems):
            incident = open_incidents.get(failure.job)
            if incident is None or incident["code"] != failure.code:
                incident = {"code": failure.code, "since": failure.at.isoformat(), "failures": 0, "told": []}
                open_incidents[failure.job] = incident
            incident["failures"] += 1
            message = self._failure_message(failure, datetime.fromisoformat(incident["since"]))
            for address in self._to:
                if address.name not in incident["told"] and self._sent(address, message, problems):
                    incident["told"].append(address.name)
        return problems

    def recovered(self, job: str) -> list[str]:
        """Tell who heard of an incident of `job` that it is over; nothing when there is none.

        Returns:
            What could not be sent, a sentence each, for stderr. Such an address is tried again at the next good run.
        """
        if not self._to or not (self._dir / INCIDENTS).exists():
            return []
        with self._incidents() as (open_incidents, problems):
            incident = open_incidents.get(job)
            if incident is not None:
                message = self._recovery_message(job, incident)
                for address in self._to:
                    if address.name in incident["told"] and self._sent(address, message, problems):
                        incident["told"].remove(address.name)
                known = {address.name for address in self._to}
                if not known.intersection(incident["told"]):
                    del open_incidents[job]
        return problems

    @contextmanager
    def _incidents(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """The open incidents by job, to change, and a list for problems. One process at a time; kept when it ends.

        A folder that can't be written, or a file nobody can read, must not keep the message from being sent.
        """
        problems: list[str] = []
        path = self._dir / INCIDENTS
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._dir / f".{INCIDENTS}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            problems.append(self._text(f"{path} can't be kept: {error}", f"无法保存 {path}：{error}"))
            yield {}, problems
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            incidents: dict[str, Any] = {}
            try:
                incidents = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            except (OSError, ValueError) as error:
                problems.append(self._text(f"{path} can't be read: {error}", f"无法读取 {path}：{error}"))
            yield incidents, problems
            try:
                new = path.with_name(f".{INCIDENTS}.new")
                new.write_text(json.dumps(incidents, ensure_ascii=False, indent=1), encoding="utf-8")
                new.replace(path)
            except OSError as error:
                problems.append(self._text(f"{path} can't be kept: {error}", f"无法保存 {path}：{error}"))
        finally:
            os.close(lock)

    def _sent(self, address: Address, message: Message, problems: list[str]) -> bool:
        try:
            if address.kind == "mail":
                self._mail(address.target, message)
            else:
                _post(address, message, at=self._now(), sleep=self._sleep)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            reason = str(error).replace(address.target, "…") or type(error).__name__
            problems.append(
                self._text(f"the alert to {address.name} was not sent: {reason}", f"未能通知 {address.name}：{reason}")
            )
            return False
        return True

    def _mail(self, recipient: str, message: Message) -> None:
        server = self._mail_server
        if server is None:
            raise ValueError("no mail server")
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = server.sender, recipient, message.title
        letter["Date"] = format_datetime(self._now())
        letter["Message-ID"] = make_msgid(domain=server.sender.rpartition("@")[2])
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(message.text, cte="base64")
        tls = None if server.security == "none" else ssl.create_default_context()
        connect = smtplib.SMTP_SSL if server.security == "tls" else smtplib.SMTP
        options: dict[str, Any] = {"context": tls} if server.security == "tls" else {}
        with connect(server.host, server.port, timeout=TIMEOUT_SECONDS, **options) as connection:
            if server.security == "starttls":
                connection.starttls(context=tls)  # raises where it is not offered: never in the clear
            if server.user:
                connection.login(server.user, server.password)
            connection.send_message(letter)

    # -------------------------------------------------------------------------------------------------- words

    def _text(self, en: str, zh: str) -> str:
        return zh if self._language == "zh" else en

    def _when(self, moment: datetime) -> str:
        return f"{moment.astimezone(self._zone):%Y-%m-%d %H:%M}"

    def _failure_message(self, failure: Failure, since: datetime) -> Message:
        en, zh = NEXT.get(failure.code, OTHERWISE)
        todo = self._text(en, zh).format(job=failure.job, run_id=failure.run_id)
        serving = self._serving()
        return Message(
            self._text(
                f"Dinghuo: the {failure.job} run failed ({failure.code})",
                f"订货：{_JOBS_ZH.get(failure.job, failure.job)}失败（{failure.code}）",
            ),
            self._text(failure.en, failure.zh),
            (
                self._text(
                    f"Since {self._when(since)} ({self._zone.key}), run {failure.run_id}.",
                    f"开始于 {self._when(since)}（{self._zone.key}），任务编号 {failure.run_id}。",
                ),
                self._serving_words(serving),
                self._text("Next: ", "下一步：") + todo,
            ),
            {
                "event": "failed", "job": failure.job, "code": failure.code, "since": since.isoformat(),
                "run_id": failure.run_id, "what": self._text(failure.en, failure.zh), "next": todo,
                "generation": serving.generation if isinstance(serving, Publication) else None,
            },
        )  # fmt: skip

    def _recovery_message(self, job: str, incident: dict[str, Any]) -> Message:
        since, failures = datetime.fromisoformat(incident["since"]), int(incident["failures"])
        lasted = _span(self._now() - since, self._language)
        serving = self._serving()
        return Message(
            self._text(
                f"Dinghuo: the {job} run is well again", f"订货：{_JOBS_ZH.get(job, job)}已恢复正常"
            ),
            self._text(
                f"{incident['code']} since {self._when(since)} ({self._zone.key}) is over after {lasted}, "
                f"{failures} failed run{'' if failures == 1 else 's'}.",
                f"{incident['code']} 自 {self._when(since)}（{self._zone.key}）起，历时 {lasted}，"
                f"失败 {failures} 次，现已解除。",
            ),
            (self._serving_words(serving),),
            {
                "event": "recovered", "job": job, "code": incident["code"], "since": incident["since"],
                "failures": failures, "generation": serving.generation if isinstance(serving, Publication) else None,
            },
        )  # fmt: skip

    def _serving(self) -> Publication | str:
        """The live generation, or why there is none to read."""
        try:
            return read.publication(self._dir)
        except WarehouseMissing:
            return ""
        except (WarehouseError, duckdb.Error, OSError) as error:
            return str(error).splitlines()[0]

    def _serving_words(self, serving: Publication | str) -> str:
        if serving == "":
            return self._text("Nothing has been published yet.", "尚未发布过任何数据。")
        if isinstance(serving, str):
            return self._text(f"The live generation can't be read: {serving}", f"当前版本无法读取：{serving}")
        age = _span(self._now() - serving.published_at, self._language)
        return self._text(
            f"Serving: generation {serving.generation}, as of {serving.as_of_date}, published {age} ago.",
            f"当前提供：第 {serving.generation} 版，数据截至 {serving.as_of_date}，{age}前发布。",
        )


_JOBS_ZH = {"daily": "每日任务", "refresh": "刷新任务", "backfill": "补跑任务"}


def _span(span: timedelta, language: str) -> str:
    """How long, in the largest unit that says it.

    >>> _span(timedelta(seconds=90), "en"), _span(timedelta(hours=50), "zh")
    ('2 min', '50 小时')
    """
    seconds = max(span.total_seconds(), 0)
    for unit, en, zh, most in ((60, "min", "分钟", 120), (3600, "h", "小时", 72), (86400, "days", "天", 10**9)):
        if seconds < unit * most:
            return f"{round(seconds / unit)} {zh if language == 'zh' else en}"
    raise AssertionError("a span is never that long")


def _post(address: Address, message: Message, *, at: datetime, sleep: Callable[[float], None]) -> None:
    """Hand the message over; returning means that it was taken.

    Raises:
        OSError: No answer within the timeout, three times, or an HTTP status that says no.
        ValueError: The robot answered that it does not take the message.
    """
    url, body = request_of(address, message, at=at)
    data = json.dumps(body, ensure_ascii=False).encode()
    for pause in (*PAUSES_SECONDS, None):
        request = urllib.request.Request(url, data, {"Content-Type": "application/json; charset=utf-8"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                _refuse_a_no(answer.read(10_000))
                return
        except urllib.error.HTTPError as error:
            if pause is None or (error.code < 500 and error.code != 429):
                raise
        except OSError:
            if pause is None:
                raise
        sleep(pause)


def _refuse_a_no(answer: bytes) -> None:
    """Robots say no with HTTP 200 and a code in the body: `errcode` (企业微信, 钉钉) or `code` (飞书)."""
    try:
        said = json.loads(answer)
    except ValueError:
        return  # Slack says "ok"
    if isinstance(said, dict) and (said.get("errcode") or said.get("code")):
        raise ValueError(f"{said.get('errcode') or said.get('code')} {said.get('errmsg') or said.get('msg') or ''}")


def request_of(address: Address, message: Message, *, at: datetime) -> tuple[str, dict[str, Any]]:
    """The URL and JSON body by which `address` is told. `at` goes into the signatures, which are good for an hour."""
    if address.kind == "slack":
        return address.target, {"text": message.text}
    if address.kind == "wecom":
        return address.target, {"msgtype": "text", "text": {"content": message.text}}
    if address.kind == "dingtalk":
        url = address.target
        if address.secret:
            stamp = str(round(at.timestamp() * 1000))
            sign = _sign(key=address.secret, text=f"{stamp}\n{address.secret}")
            url += f"{'&' if '?' in url else '?'}timestamp={stamp}&sign={quote_plus(sign)}"
        return url, {"msgtype": "text", "text": {"content": message.text}}
    if address.kind == "feishu":
        body: dict[str, Any] = {"msg_type": "text", "content": {"text": message.text}}
        if address.secret:  # here the text is the key, and nothing is signed: that is how 飞书 has it
            stamp = str(round(at.timestamp()))
            body |= {"timestamp": stamp, "sign": _sign(key=f"{stamp}\n{address.secret}", text="")}
        return address.target, body
    return address.target, {**message.facts, "title": message.title, "text": message.text}


def _sign(*, key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()
