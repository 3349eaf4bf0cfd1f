"""Who asks, and what they may do."""

from dataclasses import dataclass, field

from .messages import Answer, Question, as_json, refuse
from .storage import Repo

TOKEN, READ_TOKEN = "hf_local", "hf_local_read"
OWNER, TEAM = "org", "team"
_ROLES = {TOKEN: "write", READ_TOKEN: "read"}


@dataclass
class Access:
    """The user `org`, who is a member of `team`, has two tokens: one may write, the other only read.

    Attributes:
        roles: of the tokens that are known.
        private, gated: ids with their kind, `datasets/org/name`; readable with a token only.
    """

    roles: dict[str, str] = field(default_factory=lambda: dict(_ROLES))
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)

    def wrong_token(self, question: Question) -> Answer | None:
        """What a token of nobody is told, whatever it asks."""
        if question.token is None or question.token in self.roles:
            return None
        return refuse(401, "", "Invalid credentials in Authorization header")

    def whoami(self, question: Question) -> Answer:
        if question.token is None:
            return refuse(401, "", "Invalid username or password.")
        role = self.roles[question.token]
        return as_json(
            {
                "type": "user",
                "name": OWNER,
                "orgs": [{"type": "org", "name": TEAM, "roleInOrg": role}],
                "auth": {"type": "access_token", "accessToken": {"displayName": "tests", "role": role}},
            }
        )

    def no_reading(self, question: Question, repo: Repo, *, content: bool) -> Answer | None:
        """The Hub tells strangers nothing of what they may not read, and shows the facts of gated sets."""
        if not repo.exists or (repo.key in self.private and question.token is None):
            return refuse(401 if question.token is None else 404, "RepoNotFound", "Repository not found")
        if content and repo.key in self.gated and question.token is None:
            return refuse(401, "GatedRepo", f"Access to {repo.id} is restricted. You must have access to it.")
        return None

    def no_writing(self, question: Question, repo: Repo, *, must_exist: bool = True) -> Answer | None:
        """Whoever may not write is told so after what they may not read."""
        if question.token is None:
            return refuse(401, "", "Invalid username or password.")
        if must_exist and (refused := self.no_reading(question, repo, content=False)):
            return refused
        if repo.id.partition("/")[0] not in (OWNER, TEAM):
            return refuse(403, "", f"You don't have the rights to write to the namespace {repo.id.partition('/')[0]}")
        if self.roles[question.token] != "write":
            return refuse(403, "", "Forbidden: pass a token with write rights")
        return None
