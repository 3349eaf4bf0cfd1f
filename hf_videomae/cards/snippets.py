"""Hold the texts that several cards share: code, notes, citation.

Fill the code in with `text.format(model_id=..., views=..., frames=...)`.
"""

CLASSIFIER_CLASS, PRETRAINING_CLASS = "VideoMAEForVideoClassification", "VideoMAEForPreTraining"

CLASSIFY_WITH_STOCK = """\
from transformers import pipeline  # transformers 5.18 or later, and `pip install av`

classify = pipeline("video-classification", model="{model_id}")
print(classify("clip.mp4"))
"""

CLASSIFY_WITH_OURS = """\
from hf_videomae import predict

(answer,) = predict("{model_id}", "clip.mp4", views="{views}")
print(answer.labels[0], answer.scores[0])
"""

CALL_WITH_OURS = """\
from hf_videomae import {architecture}, VideoMAEVideoProcessor

model = {architecture}.from_pretrained("{model_id}").eval()
clip = VideoMAEVideoProcessor.from_pretrained("{model_id}")("clip.mp4")["pixel_values"]
print(model(clip).logits)
"""

REGRESS_WITH_OURS = """\
from hf_videomae import predict

(answer,) = predict("{model_id}", "clip.mp4", views="{views}")
print(answer.to_text())
"""

FEATURES_WITH_STOCK = """\
import numpy as np
import torch
from transformers import AutoImageProcessor, VideoMAEModel  # transformers 5.18 or later

model = VideoMAEModel.from_pretrained("{model_id}")
processor = AutoImageProcessor.from_pretrained("{model_id}")
frames = list(np.zeros(({frames}, 240, 320, 3), dtype=np.uint8))  # your clip: {frames} RGB frames
with torch.no_grad():
    tokens = model(**processor(frames, return_tensors="pt")).last_hidden_state  # (1, tokens, width)
print(tokens.mean(1).shape)  # one feature: there is no [CLS] token
"""

FEATURES_WITH_OURS = """\
from hf_videomae import extract_features

(found,) = extract_features("{model_id}", "clip.mp4", pool="mean")
print(found.features.shape)
"""

RECONSTRUCT_WITH_OURS = """\
from hf_videomae import reconstruct

print(reconstruct("{model_id}", "clip.mp4", seed=0).loss)  # hides most of the clip and predicts it
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
    "```bash\naccelerate launch examples/finetune.py --model {model_id} --dataset path/to/videos\n```"
)

CITE_V1 = """\
@inproceedings{tong2022videomae,
  title     = {{VideoMAE}: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training},
  author    = {Tong, Zhan and Song, Yibing and Wang, Jue and Wang, Limin},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2022}
}"""
