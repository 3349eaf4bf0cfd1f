"""Serve a model: `endpoint` for Inference Endpoints, `space` for a demo page on the Hub.

This imports nothing, so that a server loads neither the training code nor the cards.
"""
