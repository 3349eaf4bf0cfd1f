"""Serve a model: `endpoint` for Inference Endpoints, `space` for a page on the Hub.

Nothing is imported here: a server loads neither the parts that train nor those that write cards.
"""
