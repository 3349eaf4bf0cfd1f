"""Turn a video file, or its bytes, into a clip tensor: frame indices (`sampling`), decoding (`decoding`), transforms.

Everything here is `(T, C, H, W)`: T frames, C channels, height H, width W.
"""
