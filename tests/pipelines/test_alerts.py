"""One message per incident and one when it is over, to real servers on this machine."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosmtpd.controller import Controller

from pipelines.alerts import Alerts, Failure, MailServer, WrongAlertAddress, addresses
from pipelines.warehouse.publish import publish_generation, start_generation
from pipelines.warehouse.tables import TABLES
from pipelines.warehouse.write import create_tables

NOW = datetime(2026, 3, 3, 1, 30, tzinfo=UTC)


class Robots:
    """A web server that keeps every request; `answers` are (status, body) to give in turn, then 200 and {}."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[tuple[int, bytes]] = []
        robots = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                robots.requests.append((self.path, json.loads(body)))
                status, said = robots.answers.pop(0) if robots.answers else (200, b"{}")
                self.send_response(status)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def texts(self) -> list[str]:
        return [str(body["text"]) for _, body in self.requests]


@pytest.fixture
def robots() -> Iterator[Robots]:
    robots = Robots()
    yield robots
    robots.server.shutdown()
    robots.server.server_close()


@pytest.fixture
def warehouse_dir(tmp_path: Path) -> Path:
    """A published warehouse, generation 1, as of 1 March, three hours old at NOW."""
    import duckdb

    folder = tmp_path / "warehouse"
    folder.mkdir()
    building = start_generation(folder, run_id="first")
    with duckdb.connect(str(building)) as con:
        create_tables(con, TABLES)
    publish_generation(
        folder, building, tables=TABLES, run_id="first", as_of_date=datetime(2026, 3, 1).date(),  # noqa: DTZ001
        business_zone="Asia/Shanghai", published_at=NOW - timedelta(hours=3),
    )  # fmt: skip
    return folder


def alerts(folder: Path, setting: str, *, language: str = "en", mail: MailServer | None = None) -> Alerts:
    return Alerts(
        addresses(setting, mail_server=mail), warehouse_dir=folder, zone="Asia/Shanghai", language=language,
        mail_server=mail, now=lambda: NOW, sleep=lambda seconds: None,
    )  # fmt: skip


def failure(code: str = "E_CHECKS_FAILED", *, minutes: int = 0, job: str = "daily") -> Failure:
    return Failure(
        job=job, code=code, en="core.fct_order_line: 3 rows break 'qty > 0'", zh="core.fct_order_line：3 行违反 qty > 0",
        at=NOW + timedelta(minutes=minutes), run_id="run-7",
    )  # fmt: skip


def test_an_incident_is_told_once_and_its_end_once(robots: Robots, warehouse_dir: Path) -> None:
    said = alerts(warehouse_dir, f"{robots.url}/hook")
    for minute in range(5):
        assert said.failed(failure(minutes=minute)) == []
    assert len(robots.requests) == 1
    # Another process, an hour later: what is known lies in the folder.
    assert alerts(warehouse_dir, f"{robots.url}/hook").failed(failure(minutes=60)) == []
    assert len(robots.requests) == 1
    assert said.recovered("refresh") == []  # another job's good run says nothing of this one
    assert said.recovered("daily") == []
    assert said.recovered("daily") == []
    assert [body["event"] for _, body in robots.requests] == ["failed", "recovered"]
    assert robots.requests[1][1]["failures"] == 6
    said.failed(failure(minutes=90))  # the next one is a new incident
    assert [body["event"] for _, body in robots.requests] == ["failed", "recovered", "failed"]


def test_another_error_or_another_job_is_another_incident(robots: Robots, warehouse_dir: Path) -> None:
    said = alerts(warehouse_dir, f"{robots.url}/hook")
    said.failed(failure("E_SOURCE"))
    said.failed(failure("E_CHECKS_FAILED"))
    said.failed(failure("E_CHECKS_FAILED", job="refresh"))
    assert [(body["job"], body["code"]) for _, body in robots.requests] == [
        ("daily", "E_SOURCE"), ("daily", "E_CHECKS_FAILED"), ("refresh", "E_CHECKS_FAILED")]  # fmt: skip


def test_it_says_what_failed_since_when_what_still_serves_and_what_to_do(robots: Robots, warehouse_dir: Path) -> None:
    alerts(warehouse_dir, f"{robots.url}/hook").failed(failure())
    (text,) = robots.texts
    assert text.splitlines() == [
        "Dinghuo: the daily run failed (E_CHECKS_FAILED)",
        "core.fct_order_line: 3 rows break 'qty > 0'",
        "Since 2026-03-03 09:30 (Asia/Shanghai), run run-7.",
        "Serving: generation 1, as of 2026-03-01, published 3 h ago.",
        "Next: correct the rows named above ('dinghuo verify' looks at the orders), then: dinghuo run daily",
    ]


def test_the_same_in_chinese_and_without_any_generation(robots: Robots, tmp_path: Path) -> None:
    said = alerts(tmp_path / "empty", f"{robots.url}/hook", language="zh")
    said.failed(failure("E_SOURCE"))
    said.recovered("daily")
    assert robots.texts[0].splitlines() == [
        "订货：每日任务失败（E_SOURCE）",
        "core.fct_order_line：3 行违反 qty > 0",
        "开始于 2026-03-03 09:30（Asia/Shanghai），任务编号 run-7。",
        "尚未发布过任何数据。",
        "下一步：先确认订单数据库可用：dinghuo doctor，然后运行：dinghuo run daily",
    ]
    assert robots.texts[1].startswith("订货：每日任务已恢复正常\nE_SOURCE 自 2026-03-03 09:30")


def test_every_robot_gets_its_own_format_and_its_own_signature(robots: Robots, warehouse_dir: Path) -> None:
    setting = (
        f"wecom+{robots.url}/cgi-bin/webhook/send?key=K dingtalk+{robots.url}/robot/send?access_token=T#SECd "
        f"feishu+{robots.url}/open-apis/bot/v2/hook/F#SECf slack+{robots.url}/services/S json+{robots.url}/any"
    )
    assert alerts(warehouse_dir, setting).failed(failure()) == []
    (wecom_path, wecom), (ding_path, ding), (_, feishu), (_, slack), (_, generic) = robots.requests
    text = slack["text"]
    assert text.startswith("Dinghuo: the daily run failed")
    assert (wecom_path, wecom) == ("/cgi-bin/webhook/send?key=K", {"msgtype": "text", "text": {"content": text}})
    assert ding == wecom
    asked = {key: values[0] for key, values in parse_qs(urlsplit(ding_path).query).items()}
    assert asked["access_token"] == "T"
    assert asked["timestamp"] == str(int(NOW.timestamp() * 1000))
    # The way the robots' own pages describe it: 钉钉 signs the text with the secret, 飞书 nothing with the text.
    signed = hmac.new(b"SECd", f"{asked['timestamp']}\nSECd".encode(), hashlib.sha256).digest()
    assert base64.b64decode(asked["sign"]) == signed
    assert (feishu["msg_type"], feishu["content"], feishu["timestamp"]) == (
        "text", {"text": text}, str(int(NOW.timestamp())))  # fmt: skip
    signed = hmac.new(f"{feishu['timestamp']}\nSECf".encode(), b"", hashlib.sha256).digest()
    assert base64.b64decode(feishu["sign"]) == signed
    assert (generic["event"], generic["generation"], generic["text"]) == ("failed", 1, text)
    assert not any("SEC" in path for path, _ in robots.requests), "a secret was sent"


def test_addresses_are_known_by_their_hosts() -> None:
    setting = (
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=a https://oapi.dingtalk.com/robot/send?access_token=b#SEC "
        "https://open.feishu.cn/open-apis/bot/v2/hook/c https://hooks.slack.com/services/d https://example.com/e"
    )
    found = addresses(setting, mail_server=None)
    assert [address.kind for address in found] == ["wecom", "dingtalk", "feishu", "slack", "json"]
    assert (found[1].target, found[1].secret) == ("https://oapi.dingtalk.com/robot/send?access_token=b", "SEC")
    assert "key=a" not in repr(found) + " ".join(address.name for address in found)


@pytest.mark.parametrize("wrong", ["ftp://x/y", "ops@example.com", "mailto:nobody", "teams+https://x/y", "https://"])
def test_what_is_no_address_is_refused_by_its_place_and_not_repeated(wrong: str) -> None:
    with pytest.raises(WrongAlertAddress) as refused:
        addresses(f"https://example.com/ok {wrong}", mail_server=MailServer("localhost"))
    assert "address 2" in str(refused.value)
    assert wrong not in str(refused.value)
    with pytest.raises(WrongAlertAddress, match="DINGHUO_SMTP_HOST"):
        addresses("mailto:ops@example.com", mail_server=None)


def test_a_server_that_stumbles_is_asked_again_and_one_that_says_no_is_not(robots: Robots, warehouse_dir: Path) -> None:
    said = alerts(warehouse_dir, f"{robots.url}/hook")
    robots.answers = [(502, b""), (429, b"")]
    assert said.failed(failure()) == []
    assert len(robots.requests) == 3
    robots.answers = [(404, b"")]
    (problem,) = said.failed(failure("E_SOURCE"))
    assert len(robots.requests) == 4
    assert "404" in problem
    assert said.failed(failure("E_SOURCE")) == []  # who has not heard of it is told when it fails again
    assert len(robots.requests) == 5


def test_a_robot_that_refuses_in_the_body_has_not_been_told(robots: Robots, warehouse_dir: Path) -> None:
    said = alerts(warehouse_dir, f"wecom+{robots.url}/send?key=SECRETKEY", language="zh")
    robots.answers = [(200, f'{{"errcode": 93000, "errmsg": "no robot at {robots.url}/send?key=SECRETKEY"}}'.encode())]
    (problem,) = said.failed(failure())
    assert problem.startswith("未能通知 wecom:127.0.0.1:")
    assert "93000" in problem
    assert "SECRETKEY" not in problem
    assert said.failed(failure()) == []
    robots.answers = [(200, b'{"errcode": 45009}')]
    assert len(said.recovered("daily")) == 1
    assert said.recovered("daily") == []  # the note that did not arrive goes out with the next good run
    assert len(robots.requests) == 4
    assert said.recovered("daily") == []
    assert len(robots.requests) == 4


def test_nobody_listening_is_said_and_raises_nothing(warehouse_dir: Path) -> None:
    (problem,) = alerts(warehouse_dir, "http://127.0.0.1:9/hook").failed(failure())
    assert problem.startswith("the alert to json:127.0.0.1:")


def test_a_broken_or_unwritable_memory_does_not_keep_the_message_back(robots: Robots, warehouse_dir: Path) -> None:
    (warehouse_dir / "incidents.json").write_text("{half", encoding="utf-8")
    (problem,) = alerts(warehouse_dir, f"{robots.url}/hook").failed(failure())
    assert "can't be read" in problem
    assert len(robots.requests) == 1
    folder = warehouse_dir / "generation-000001.duckdb" / "no-folder"
    assert len(alerts(folder, f"{robots.url}/hook").failed(failure())) == 1
    assert len(robots.requests) == 2


def test_a_long_story_is_cut_but_never_what_to_do(robots: Robots, warehouse_dir: Path) -> None:
    long = Failure(job="daily", code="E_CHECKS_FAILED", en="x", zh="行" * 5000, at=NOW, run_id="r")
    alerts(warehouse_dir, f"wecom+{robots.url}/send", language="zh").failed(long)
    content = robots.requests[0][1]["text"]["content"]
    assert 1900 < len(content.encode()) <= 2048
    assert content.endswith("然后运行：dinghuo run daily")


def test_mail_arrives_as_a_letter(warehouse_dir: Path) -> None:
    letters: list[bytes] = []

    class Mailbox:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            letters.append(envelope.content)
            return "250 OK"

    class OnAnyPort(Controller):
        def _trigger_server(self) -> None:
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    controller = OnAnyPort(Mailbox(), hostname="127.0.0.1", port=0)
    controller.start()
    try:
        server = MailServer("127.0.0.1", controller.port, security="none", sender="dinghuo@example.com")
        said = alerts(warehouse_dir, "mailto:ops@example.com", language="zh", mail=server)
        assert said.failed(failure()) == []
        assert said.recovered("daily") == []
    finally:
        controller.stop()
    first, second = (message_from_bytes(letter, policy=policy.default) for letter in letters)
    assert (first["To"], first["From"]) == ("ops@example.com", "dinghuo@example.com")
    assert first["Subject"] == "订货：每日任务失败（E_CHECKS_FAILED）"
    assert "下一步" in first.get_content()
    assert second["Subject"] == "订货：每日任务已恢复正常"
