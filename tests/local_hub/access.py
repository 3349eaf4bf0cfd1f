"""Decide what the owner of a token may read and write."""

from dataclasses import dataclass, field

from .messages import HubRequest, HubResponse, json_response, refuse
from .storage import Repo

TOKEN, READ_TOKEN = "hf_local", "hf_local_read"
OWNER, TEAM = "org", "team"
_ROLES = {TOKEN: "write", READ_TOKEN: "read"}


@dataclass
class Access:
    """Permissions of the user `org`, a member of `team`, who has two tokens: one may write, the other only read.

    Attributes:
        roles: by known token.
        private, gated: ids with their kind, `datasets/org/name`; readable only with a token.
    """

    roles: dict[str, str] = field(default_factory=lambda: dict(_ROLES))
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)

    def check_token(self, request: HubRequest) -> HubResponse | None:
        """Return the refusal of an unknown token; None if it is known, or there is none."""
        if request.token is None or request.token in self.roles:
            return None
        return refuse(401, "", "Invalid credentials in Authorization header")

    def whoami(self, request: HubRequest) -> HubResponse:
        if request.token is None:
            return refuse(401, "", "Invalid username or password.")
        role = self.roles[request.token]
        return json_response(
            {
                "type": "user",
                "name": OWNER,
                "orgs": [{"type": "org", "name": TEAM, "roleInOrg": role}],
                "auth": {"type": "access_token", "accessToken": {"displayName": "tests", "role": role}},
            }
        )

    def check_read(self, request: HubRequest, repo: Repo, *, content: bool) -> HubResponse | None:
        """Return the refusal to read a repository; None if allowed. Everybody may read a gated one's metadata."""
        if not repo.exists or (repo.key in self.private and request.token is None):
            return refuse(401 if request.token is None else 404, "RepoNotFound", "Repository not found")
        if content and repo.key in self.gated and request.token is None:
            return refuse(401, "GatedRepo", f"Access to {repo.id} is restricted. You must have access to it.")
        return None

    def check_write(self, request: HubRequest, repo: Repo, *, must_exist: bool = True) -> HubResponse | None:
        """Return the refusal to write to a repository; None if it is allowed."""
        if request.token is None:
            return refuse(401, "", "Invalid username or password.")
        if must_exist and (refused := self.check_read(request, repo, content=False)):
            return refused
        if repo.id.partition("/")[0] not in (OWNER, TEAM):
            return refuse(403, "", f"You don't have the rights to write to the namespace {repo.id.partition('/')[0]}")
        if self.roles[request.token] != "write":
            return refuse(403, "", "Forbidden: pass a token with write rights")
        return None
