"""Test the redaction of credentials in texts that are printed, written or published."""

import json

import pytest

from hf_videomae.credentials import redact_credentials
from hf_videomae.redaction import redact_command, redact_secrets, redact_text, redact_values
from hf_videomae.video.url_allowlist import redact_url

pytestmark = pytest.mark.fault
SECRET = "S3cr3tS3cr3tS3cr3tS3cr3t"


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "a1" * 17,
        "ghp_" + "a1" * 18,
        "gho_" + "a1" * 18,
        "ghs_" + "a1" * 18,
        "github_pat_11ABCDEFG0" + "a1_" * 12,
        "glpat-" + "a1-_" * 5,
        "gldt-" + "a1" * 10,
        "xoxb-12345678-" + "a1" * 10,
        "sk-ant-api03-" + "a1" * 20,
        "sk-proj-" + "a1" * 20,
        "npm_" + "a1" * 18,
        "pypi-" + "AgEIcHlwaS5vcmc" * 2,
        "xapp-1-A01234567-" + "a1" * 20,
        "rk_live_" + "a1" * 12,
        "dop_v1_" + "a1" * 32,
        "shpat_" + "a1" * 16,
        "dapi" + "a1" * 16,
        "SK" + "a1" * 16,
        "hvs." + "a1_" * 20,
        "ntn_" + "a1" * 20,
        "wandb_v1_" + "a1" * 20,
        "gsk_" + "a1" * 20,
        "r8_" + "a1" * 18,
        "nvapi-" + "a1" * 20,
        "GOCSPX-" + "a1" * 14,
        "SG." + "a1" * 11 + "." + "a1" * 20,
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "AIza" + "Sy_a1" * 7,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_tokens_of_many_services_are_redacted(token: str) -> None:
    for text in (token, f"it failed ({token})", f"https://host/{token}/a.mp4", f"x={token}", f"my_{token}"):
        assert token not in redact_credentials(text) and "TOKEN" in redact_credentials(text)
        assert token not in redact_secrets(text) and token not in redact_text(text)
    assert token not in json.dumps(redact_values({"a": [f"see {token}"], "command": f"run --x {token}"}))


@pytest.mark.parametrize(
    "text",
    [
        f"https://anna:{SECRET}@host.org/a.mp4",
        f"https://{SECRET}@host.org/a.mp4",
        f"git+https://oauth2:{SECRET}@host.org/r",
        f"s3://key:{SECRET}@bucket/a.mp4",
        f"https://b.s3.amazonaws.com/a?X-Amz-Algorithm=AWS4&X-Amz-Signature={SECRET}&X-Amz-Expires=60",
        f"https://b.s3.amazonaws.com/a?AWSAccessKeyId=x&Signature={SECRET}",
        f"https://storage.googleapis.com/b/a?X-Goog-Signature={SECRET}",
        f"https://x.blob.core.windows.net/c/a?sv=2024&sig={SECRET}%3D",
        f"https://host/a?id=1&access_token={SECRET}",
        f"https://host/a?x=1&amp;token={SECRET}",
        f"https://host/a#id_token={SECRET}",
        f"https://host/a?id=1&key={SECRET}",
        f"https://host/a%3Ftoken%3D{SECRET}",
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"AccountName=x;AccountKey={SECRET}",
        f"Cookie: session={SECRET}; x={SECRET}",
        f"--wandb_key {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"{{'Authorization': 'token {SECRET}'}}",
        f'{{"x-api-key": "{SECRET}", "api_key": "{SECRET}"}}',
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"HF_TOKEN={SECRET} python train.py",
        f"curl --token {SECRET} https://host",
        f"password: {SECRET}",
    ],
)
def test_credentials_are_recognized_by_context(text: str) -> None:
    for shown in (redact_credentials(text), redact_text(text), redact_secrets(text), redact_values({"a": text})["a"]):
        assert SECRET not in shown
    assert SECRET not in redact_command(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://host.org/get?id=123&t=4",
        "hf://datasets/org/name@0123abc/data/a.mp4",
        "mask_token: 1568 of num_tokens=123456789",
        "the token is wrong; log in with `hf auth login`",
        "data/glove-throwing-long-name-of-a-video.mp4",
        "basic_block.fused_attention.weights",
        "{'eos_token': '<s>'}",
        "user@example.org wrote it",
        "a@b.mp4",
    ],
)
def test_harmless_text_is_unchanged(text: str) -> None:
    assert redact_credentials(text) == text


def test_redacted_json_is_still_json() -> None:
    values = {"path": f'https://a:{SECRET}@h/x?sig={SECRET}"\\', "list": [f"token={SECRET}"], "n": 1.5}
    clean = json.loads(redact_credentials(json.dumps(values)))
    assert SECRET not in json.dumps(clean) and clean["n"] == 1.5 and clean.keys() == values.keys()


def test_long_text_is_redacted_quickly() -> None:
    for text in ("-.-" * 100_000, "a_" * 100_000, "https://" + "a" * 300_000, "token" * 60_000):
        assert redact_credentials(text) == text


def test_redact_url_removes_user_and_query() -> None:
    assert redact_url(f"https://anna:{SECRET}@host:8000/a b.mp4?sig={SECRET}") == "https://host:8000/a b.mp4?..."
    assert redact_url("hf://datasets/org/name@main/a@b.mp4") == "hf://datasets/org/name@main/a@b.mp4"
    assert redact_url("clips/a.mp4") == "clips/a.mp4"


@pytest.mark.parametrize(
    "url", ["file:///home/anna/x", "FILE:///home/anna/x", "file:/home/anna/x", "git+File:///home/anna/x"]
)
def test_file_urls_are_redacted(url: str) -> None:
    assert "anna" not in redact_text(f"see {url} there") and "anna" not in redact_command(f"run --x {url}")
