"""What cards of runs and of published checkpoints say in the same words: code, tables, the widget, the citation."""

from .markdown import code_block, details_block, join_card, section, table

MODEL_ID_PLACEHOLDER = "org/name"
"""Stands for the model in the code below."""

CLASSIFIER_CLASS, PRETRAINING_CLASS = "VideoMAEForVideoClassification", "VideoMAEForPreTraining"

CLASSIFY_WITH_STOCK = """\
from transformers import pipeline  # transformers 5.18 or later, and `pip install av`

classify = pipeline("video-classification", model="org/name")
print(classify("clip.mp4"))
"""

CLASSIFY_WITH_OURS = """\
from hf_videomae import predict

(answer,) = predict("org/name", "clip.mp4", views="{views}")
print(answer.labels[0], answer.scores[0])
"""

REGRESS_WITH_OURS = """\
from hf_videomae import predict

(answer,) = predict("org/name", "clip.mp4", views="{views}")
print(answer.to_text())
"""

CLASSIFY_WITH_STOCK_AND_HEADS = """\
from transformers import AutoImageProcessor, VideoMAEForVideoClassification, pipeline  # 5.18 or later, and av

model = VideoMAEForVideoClassification.from_pretrained("org/name", num_attention_heads={heads})
processor = AutoImageProcessor.from_pretrained("org/name")
classify = pipeline("video-classification", model=model, image_processor=processor)
print(classify("clip.mp4"))
"""

CLASSIFY_WITH_OURS_AND_HEADS = """\
from hf_videomae import VideoMAEForVideoClassification, predict

model = VideoMAEForVideoClassification.from_pretrained("org/name", num_attention_heads={heads})
(answer,) = predict(model, "clip.mp4", views="{views}")
print(answer.labels[0], answer.scores[0])
"""

FEATURES_WITH_STOCK = """\
import numpy as np
import torch
from transformers import AutoImageProcessor, VideoMAEModel  # transformers 5.18 or later

model = VideoMAEModel.from_pretrained("org/name")
processor = AutoImageProcessor.from_pretrained("org/name")
frames = list(np.zeros(({frames}, 240, 320, 3), dtype=np.uint8))  # your clip: {frames} RGB frames
with torch.no_grad():
    tokens = model(**processor(frames, return_tensors="pt")).last_hidden_state  # (1, tokens, width)
print(tokens.mean(1).shape)  # one feature: there is no [CLS] token
"""

FEATURES_WITH_OURS = """\
from hf_videomae import extract_features

(found,) = extract_features("org/name", "clip.mp4", pool="mean")
print(found.features.shape)
"""

RECONSTRUCT_WITH_OURS = """\
from hf_videomae import reconstruct

print(reconstruct("org/name", "clip.mp4", seed=0).loss)  # hides most of the clip and predicts it
"""

NO_WIDGET_NOTE = (
    "There is no live widget on this page: the Hub runs none for video classification. The code above runs anywhere."
)
HANDLER_FILE, REQUIREMENTS_FILE = "handler.py", "requirements.txt"
HANDLER_MARK = "Written by `hf-videomae endpoint`"
ENDPOINT_NOTE = (
    f"`{HANDLER_FILE}` serves it on Inference Endpoints (choose the task Custom there): "
    '`{"inputs": "<the file as base64, or a URL>", "parameters": {"top_k": 3}}`.'
)
PRETRAINED_ONLY_NOTE = (
    "This checkpoint has no classifier: fine-tune it. Frozen features of a model that was only pre-trained are weak."
    "\n\n"
    "```bash\naccelerate launch examples/finetune.py --model org/name --dataset path/to/videos\n```"
)

CITE_V1 = """\
@inproceedings{tong2022videomae,
  title     = {{VideoMAE}: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training},
  author    = {Tong, Zhan and Song, Yibing and Wang, Jue and Wang, Limin},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2022}
}"""

CITE_V2 = """\
@inproceedings{wang2023videomaev2,
  title     = {{VideoMAE V2}: Scaling Video Masked Autoencoders with Dual Masking},
  author    = {Wang, Limin and Huang, Bingkun and Zhao, Zhiyu and Tong, Zhan and He, Yinan and Wang, Yi and Wang, Yali
               and Qiao, Yu},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2023}
}"""


def fill_model_id(text: str, model_id: str) -> str:
    """Code of this file, with the model's own name."""
    return text.replace(MODEL_ID_PLACEHOLDER, model_id)


__all__ = [
    "CITE_V1",
    "CITE_V2",
    "CLASSIFIER_CLASS",
    "CLASSIFY_WITH_OURS",
    "CLASSIFY_WITH_OURS_AND_HEADS",
    "CLASSIFY_WITH_STOCK",
    "CLASSIFY_WITH_STOCK_AND_HEADS",
    "FEATURES_WITH_OURS",
    "FEATURES_WITH_STOCK",
    "MODEL_ID_PLACEHOLDER",
    "NO_WIDGET_NOTE",
    "PRETRAINING_CLASS",
    "PRETRAINED_ONLY_NOTE",
    "RECONSTRUCT_WITH_OURS",
    "REGRESS_WITH_OURS",
    "code_block",
    "join_card",
    "details_block",
    "section",
    "table",
    "fill_model_id",
]
