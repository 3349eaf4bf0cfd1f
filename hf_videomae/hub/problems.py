"""What is known to be wrong with published checkpoints, and what to do: named in their YAML, written once."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong, what it does, what to do; and who says so."""

    title: str
    text: str
    source: str


PROBLEMS = {
    "small-heads": Problem(
        title="Its configuration is wrong: 16 attention heads, where the model has 6.",
        text="It also says 12 decoder layers, where there are 4; a classifier has no decoder, so that does no harm. "
        "The weights have the same shapes with 16 heads of 24 channels as with 6 of 64, so they load without an error "
        "and the answers are wrong: on one user's part of Kinetics-400 this checkpoint had 42 % top-1, the original "
        "code 60 %, where 79.0 is published for the whole. Give `num_attention_heads=6`, as above. That this brings "
        "back the published accuracy was not measured by us.",
        source="transformers' conversion script; transformers issue 25868",
    ),
    "zero-biases": Problem(
        title="transformers 5.6.0 to 5.17.0 load it wrongly.",
        text="Those releases set the query and value biases to zero and say nothing. Use 5.18.0 or later; "
        "hf_videomae reads them on every release that it supports.",
        source="transformers pull request 48675",
    ),
    "token-0": Problem(
        title="Stock makes a classifier of it that reads one token.",
        text="The file's configuration says `use_mean_pooling: false`, so `VideoMAEForVideoClassification` of stock "
        "transformers reads token 0, the corner of the first two frames: there is no [CLS] token. Pass "
        "`use_mean_pooling=True` there, as the paper does; hf_videomae always takes the mean.",
        source="transformers, models/videomae",
    ),
    "remote-code": Problem(
        title="Loaded from the Hub it needs code of its own, which does not run on transformers 5.",
        text="Its classes ask for `trust_remote_code` and fail to load there. Convert the weights instead, as above.",
        source="VideoMAEv2 issue 87",
    ),
    "encoder-only": Problem(
        title="There is no decoder and no classifier.",
        text="It holds the encoder and a norm after the mean of its tokens. Pre-training cannot go on from it as it "
        "was, and the trained norm looks like that of a distilled or fine-tuned model, whatever its name says.",
        source="VideoMAEv2 issues 80 and 85",
    ),
    "one-of-two": Problem(
        title="Two trainings were published under this description.",
        text="One fine-tuned with repeated augmentation, one without. Which of them this file is, is not known here.",
        source="VideoMAE, MODEL_ZOO",
    ),
    "k710-rows": Problem(
        title="Its classes are those of Kinetics-710.",
        text="The numbers for Kinetics-400 and -600 are of its classifier's rows for those classes (the lists are in "
        "the authors' repository), without further training.",
        source="VideoMAE V2, docs/MODEL_ZOO and misc/",
    ),
}
"""Key in a YAML of `model_cards/` -> the problem."""
