"""Serve the page of a Space on your own machine: drop a video there and see what a VideoMAE predicts.

    python examples/app.py --model org/my-finetuned --pretrained org/my-videomae

Needs `pip install 'hf-videomae[space]'`. `hf-videomae space DIR` writes the same page for the Hub.
"""

import importlib.util
import sys

if __name__ == "__main__":
    if importlib.util.find_spec("gradio") is None:
        sys.exit("the page needs gradio: pip install 'hf-videomae[space]'")
    from hf_videomae.serving.space_app import main

    main()
