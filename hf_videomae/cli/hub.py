"""Define the commands for the Hub: card, push, endpoint, space."""

import argparse
from pathlib import Path
from typing import Any

from .common import both_spellings, exit_with_error, print_notes


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the parser."""
    _add_card(commands)
    _add_push_run(commands)
    _add_endpoint(commands)
    _add_space(commands)


def _add_card(commands: Any) -> None:
    card = commands.add_parser(
        "card",
        help="write the card of a training run, or of a prepared dataset, from its files",
        description="Write README.md, the card, into the folder of a training run, from run.json, metrics.jsonl, "
        "evaluation.json and the other files of the run, or into the folder of a dataset from `hf-videomae prepare`, "
        "from its report. It needs no network, says only what was measured, and contains no paths of this machine. "
        "The same files give the same card.",
        epilog="To show example videos with the model's answers, copy short videos into DIR, then run: hf-videomae "
        "predict DIR/*.mp4 --model DIR --json > DIR/examples.jsonl",
    )
    card.add_argument("folder", metavar="DIR", help="the --output_dir of a run, or DST of `hf-videomae prepare`")
    card.add_argument(
        *both_spellings("model_id"), metavar="ORG/NAME", help="where it is or will be published (default: org/DIR)"
    )
    card.add_argument(
        "--license", help="license in the Hub's spelling (default: that of the parent model, then of the data)"
    )
    card.add_argument("--overwrite", action="store_true", help="replace a README.md that was edited by hand")
    card.add_argument("--check", action="store_true", help="write nothing; report the problems of README.md's header")
    card.set_defaults(run=_card)


def _add_push_run(commands: Any) -> None:
    push = commands.add_parser(
        "push",
        help="publish a training run on the Hub: model, card, pictures",
        description="Publish the folder of a training run on the Hub: the finished model, or that of the newest "
        "checkpoint, with its processor, card, pictures and numbers, in one commit. Files that the Hub has already "
        "are not sent again: the same command continues an interrupted push, and does nothing if nothing is new. A "
        "card that was edited on the Hub stays as it is.",
    )
    push.add_argument("folder", metavar="DIR", help="the --output_dir of a run of pretrain.py or finetune.py")
    push.add_argument(
        *both_spellings("hub_model_id"),
        required=True,
        metavar="ORG/NAME",
        help="repository (NAME alone: among your own); needs `hf auth login`",
    )
    push.add_argument("--private", action="store_true", help="make the repository private, if it is new")
    push.add_argument(
        "--state",
        action="store_true",
        help="also push the newest checkpoint, to the branch training-state, for --resume ORG/NAME",
    )
    push.add_argument(
        "--overwrite", action="store_true", help="replace the model of another run (it stays in the history)"
    )
    push.add_argument(
        *both_spellings("overwrite_card"), action="store_true", help="replace a card that was edited on the Hub"
    )
    push.set_defaults(run=_push_run)


def _add_endpoint(commands: Any) -> None:
    endpoint = commands.add_parser(
        "endpoint",
        help="prepare the folder of a fine-tuned model for Inference Endpoints",
        description="Write handler.py and requirements.txt into the folder of a fine-tuned model, so that Inference "
        "Endpoints of the Hub can serve it. Requests contain a video as base64 text or as a URL. Choose the task "
        "Custom there: for Video Classification the Hub's toolkit refuses text before the handler sees it.",
    )
    endpoint.add_argument("folder", metavar="DIR", help="folder of a fine-tuned model")
    endpoint.add_argument(
        "--package",
        metavar="REQUIREMENT",
        help="where pip finds hf-videomae, as a line of requirements.txt (default: this version, by name)",
    )
    endpoint.add_argument("--overwrite", action="store_true", help="replace files of these names with other content")
    endpoint.set_defaults(run=_endpoint)


def _add_space(commands: Any) -> None:
    space = commands.add_parser(
        "space",
        help="write a Space, a page where anyone drops a video and sees what your model predicts",
        description="Write the files of a Space into DIR: a page with the classes over time, their explanation in the "
        "frames, and the masked reconstruction; its requirements, and a README.md with the header that the Hub reads.",
        epilog="To publish it: hf repos create org/name --repo-type space --space-sdk gradio, then hf upload org/name "
        "DIR . --repo-type space",
    )
    space.add_argument("folder", metavar="DIR", help="folder of the Space; created if it is missing")
    space.add_argument("--model", help="Hub id (or folder) of a fine-tuned VideoMAE, for classes and explanations")
    space.add_argument("--pretrained", help="Hub id (or folder) of a pre-trained VideoMAE, for reconstructions")
    space.add_argument("--title", default="What a VideoMAE sees", help="title of the page (default: %(default)s)")
    space.add_argument(
        "--package",
        metavar="SPEC",
        help="where pip finds hf_videomae, such as git+https://host/repository@commit (default: a copy in the Space)",
    )
    space.add_argument("--license", help="license of the Space in the Hub's spelling (default: that of the models)")
    space.add_argument("--overwrite", action="store_true", help="replace files that exist in DIR")
    space.set_defaults(run=_space)


def _card(arguments: argparse.Namespace) -> int:
    from ..cards.card_check import check_card
    from ..cards.run_card import write_card
    from ..prepare import check_dataset_card, read_report, write_dataset_card

    is_data = read_report(Path(arguments.folder)) is not None
    if arguments.check:
        _check_no_write_options(arguments)
        path = Path(arguments.folder) / "README.md"
        if not path.is_file():
            exit_with_error(f"there is no {path}; hf-videomae card {arguments.folder} writes it")
        check = check_dataset_card if is_data else check_card
        problems = check(path.read_text(encoding="utf-8"), arguments.folder)
        print("\n".join(problems) or f"{path}: no problems in the header")
        return 1 if problems else 0
    options: dict[str, Any] = {"license": arguments.license, "overwrite": arguments.overwrite}
    if is_data:
        path, notes = write_dataset_card(arguments.folder, id=arguments.model_id, **options)
    else:
        path, notes = write_card(arguments.folder, model_id=arguments.model_id, **options)
    print_notes(notes)
    print(path)
    return 0


def _check_no_write_options(arguments: argparse.Namespace) -> None:
    """Refuse --check together with options that only matter for writing."""
    values = {"--model_id": arguments.model_id, "--license": arguments.license, "--overwrite": arguments.overwrite}
    given = [name for name, value in values.items() if value not in (None, False)]
    if given:
        exit_with_error(
            f"--check writes nothing, so {' and '.join(given)} would have no effect; leave out --check or the others"
        )


def _push_run(arguments: argparse.Namespace) -> int:
    from ..hub.repo import HubTarget
    from ..publishing import PushTiming, format_publish_result, push_run

    options = {name: getattr(arguments, name) for name in ("private", "overwrite", "overwrite_card")}
    target = HubTarget(id=arguments.hub_model_id, **options)
    retry_seconds = PushTiming.from_environment().retry_seconds
    target, result = push_run(arguments.folder, target, with_state=arguments.state, retry_seconds=retry_seconds)
    print_notes(result.notes)
    print(f"{target.url}: {format_publish_result(result)}")
    return 0


def _endpoint(arguments: argparse.Namespace) -> int:
    from ..serving.endpoint.handler_files import DEFAULT_REQUIREMENT, write_endpoint

    package = DEFAULT_REQUIREMENT if arguments.package is None else arguments.package
    for path in write_endpoint(arguments.folder, package=package, overwrite=arguments.overwrite):
        print(path)
    return 0


def _space(arguments: argparse.Namespace) -> int:
    from ..serving.space import write_space

    names = ("model", "pretrained", "title", "package", "overwrite")
    options = {name: getattr(arguments, name) for name in names}
    space = write_space(arguments.folder, license=arguments.license, **options)
    print_notes(space.notes)
    print(f"{arguments.folder}: {len(space.files)} files; to try it here: python {arguments.folder}/app.py")
    return 0
