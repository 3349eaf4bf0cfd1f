"""Redact credentials in text: access tokens, passwords in URLs, signed queries."""

import re

# Access tokens by the prefixes that services give them so that scanners find them.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf|api_org|sk|gh[pousr]|npm|dckr_pat|glsa|glc)_[A-Za-z0-9_]{16,}"  # the Hub, GitHub, npm, Docker, Grafana
    r"|(?:rk_live|rk_test|whsec|do[oprt]_v1|shp(?:at|ca|pa|ss)|lin_api|ntn|figd|gsk|pcsk|wandb_v\d)_[A-Za-z0-9_-]{20,}"
    r"|(?:secret|r8)_[A-Za-z0-9]{30,}"  # Notion, Replicate
    r"|(?:nvapi|pplx|xai|GOCSPX)-[A-Za-z0-9_-]{20,}"  # NVIDIA, Perplexity, xAI, Google
    r"|(?:dapi|SK|key-)[0-9a-f]{32}|hv[sbr]\.[A-Za-z0-9_-]{20,}"  # Databricks, Twilio, Mailgun, Vault
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|1//0[A-Za-z0-9_-]{30,}"  # SendGrid, Google
    r"|[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}|[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"  # chat bots
    r"|github_pat_[A-Za-z0-9_]{16,}"
    r"|gl(?:pat|ptt|dt|rt|rtr|cbt|ft|soat|imt|agent|oas|ffct)-[A-Za-z0-9_.-]{16,}"  # GitLab
    r"|(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}"  # Slack
    r"|sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic
    r"|pypi-[A-Za-z0-9_-]{16,}"
    r"|A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}"  # AWS
    r"|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{16,}"  # Google
    r"|ATATT3[A-Za-z0-9_=-]{16,}|ATBB[A-Za-z0-9]{16,}"  # Atlassian
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # JSON Web Token
    r")"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_URL_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s?#\"'<>\\]+@", re.IGNORECASE)
_SECRET_NAME = (
    r"(?:token|secret|passw(?:or)?d|passphrase|signature|credential|api[_-]?key|(?:access|account)[_-]?key)s?"
    r"(?:[_-]?(?:key|id|access[_-]?key))?"
)
# In a query, short names are enough to recognize a signature: Azure's `sig`, Aliyun's `sign`, Akamai's `hdnts`.
_QUERY = re.compile(
    rf"([?&;#](?:amp;)?(?:[A-Za-z0-9_.%-]{{0,60}}{_SECRET_NAME}|x-(?:amz|goog|oss|cos|ms|bce)-[a-z-]+|"
    r"googleaccessid|key-pair-id|policy|sig|sign|auth|authorization|pass|pwd|jwt|hmac|hdnts|hdnea)=)[^&\s\"'<>#\\]+",
    re.IGNORECASE,
)
_ASSIGNED_SECRET = re.compile(
    rf"((?:{_SECRET_NAME}|authorization)[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic|token)\s+)?)"
    r"(?![0-9.]+(?![A-Za-z0-9]))[A-Za-z0-9+/_.~%=-]{8,}",
    re.IGNORECASE,
)
_SECRET_FLAG = re.compile(r"(--[a-z_-]*(?:token|password|secret|[_-]key)\s+)[^\s\"'-][^\s\"']{5,}", re.IGNORECASE)
_QUOTED_QUERY = re.compile(rf"((?:%3f|%26)[A-Za-z0-9_.-]{{0,60}}{_SECRET_NAME}%3d)[A-Za-z0-9_.~+-]+", re.IGNORECASE)
_LONG_KEY = re.compile(r"([?&]key=)[A-Za-z0-9_-]{24,}", re.IGNORECASE)
_COOKIE = re.compile(r"\b(cookie:\s*)[^\s\"'][^\r\n\"']*", re.IGNORECASE)
_WEBHOOK = re.compile(
    r"\b(hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/)[\w/-]+", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer\s+)[A-Za-z0-9+/=._~-]{12,}", re.IGNORECASE)


def redact_tokens(text: str, *known: str | None) -> str:
    """Return a text without known tokens and without anything that looks like a token."""
    for token in filter(None, known):
        text = text.replace(token, "TOKEN")
    return _PRIVATE_KEY.sub("TOKEN", _TOKEN.sub("TOKEN", text))


def redact_credentials(text: str, *known: str | None) -> str:
    """Return a text without tokens, user names, passwords and signatures in URLs, and assigned passwords.

    The rest of a URL's query stays, because only it may distinguish two videos. JSON stays JSON.
    """
    text = _URL_CREDENTIALS.sub(r"\1", redact_tokens(text, *known))
    for pattern in (_QUERY, _QUOTED_QUERY, _LONG_KEY, _ASSIGNED_SECRET, _SECRET_FLAG, _BEARER, _COOKIE, _WEBHOOK):
        text = pattern.sub(r"\1TOKEN", text)
    return text
