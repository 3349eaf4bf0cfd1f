"""Make files that name other files and addresses, in the forms that FFmpeg would follow."""

import struct
from pathlib import Path


def referring_texts(neighbor: str, url: str) -> dict[str, bytes]:
    """Return texts that FFmpeg opens as videos and that lead to a neighboring file and to a server."""
    session = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video {port} RTP/AVP 96\r\n"
    port = url.rsplit(":", 1)[1].strip("/")
    texts = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}/a.ts\n#EXTINF:9,\n{neighbor}\n#EXT-X-ENDLIST\n",
        "hls_master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}/b.m3u8\n",
        "hls_bom": f"\ufeff#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}/c.ts\n",
        "ffconcat": f"ffconcat version 1.0\nfile '{neighbor}'\nfile '{url}/d.mp4'\n",
        "sdp": session.format(port=port),
        "sdp_bare": f"c=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash": _dash(f"{url}/"),
        "dash_neighbor": _dash(""),
        "imf": f'<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org"><Id>{url}</Id>',
        "vobsub": "# VobSub index file, v7 (do not modify this line!)\nsize: 64x48\nid: en, index: 0\n",
        "smooth": f'<SmoothStreamingMedia MajorVersion="2"><StreamIndex Url="{url}/x"/></SmoothStreamingMedia>',
        "asx": f'<ASX version="3.0"><Entry><Ref href="{url}/x.wmv"/></Entry></ASX>',
        "pls": f"[playlist]\nFile1={url}/x.mp4\n",
        "rtsp": f"RTSPtextRTSP://127.0.0.1:{port}/x\n",
        "subtitles": "1\n00:00:00,000 --> 00:00:09,000\nhello\n",
        "ansi": "\x1b[2J\x1b[31mart\x1b[0m\n" * 40,
        "lavfi": "movie=neighbor.mp4",
    }
    return {name: text.encode() for name, text in texts.items()}


def hidden_texts(neighbor: str, url: str) -> dict[str, bytes]:
    """Return the same behind the first bytes of a container, where FFmpeg would find them all the same."""
    dash = _dash(f"{url}/").encode()
    session = b"\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
    sync = bytearray(b" " * (188 * 8))
    sync[::188] = b"G" * 8
    packets = bytes(sync)
    return {
        "mp4 and dash": b"AAAAfree" + dash,
        "mp4 and sdp": b"AAAAskip" + session,
        "mp4 and imf": b"AAAAwide<CompositionPlaylist xmlns='http://www.smpte-ra.org/'>",
        "transport stream and dash": packets[:1] + dash[:180].ljust(187) + packets[188:] + dash,
        "transport stream and sdp": packets[:1] + session + packets[1 + len(session) :],
        "y4m and sdp": b"YUV4MPEG2 W4 H4 F1:1\n" + session + b"FRAME\n",
        "gif and dash": b"GIF89a" + dash,
        "flv and sdp": b"FLV\x01" + session,
        "avi and dash": b"RIFFAAAAAVI " + dash,
        "id3 and hls": b"ID3\x04\0\0\0\0\0\0" + f"#EXTM3U\n#EXTINF:9,\n{url}/e.ts\n".encode(),
        "id3 and ffconcat": b"ID3\x04\0\0\0\0\0\0" + f"ffconcat version 1.0\nfile {neighbor}\n".encode(),
    }


def _dash(base: str) -> str:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT9S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{base}neighbor.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )


def reference_movie(movie: bytes, path: Path, *, kind: bytes) -> bytes:
    """Return a QuickTime movie with its index behind the pixels, whose video is said to lie in another file."""
    entry = _alias(path) if kind == b"alis" else b"\0\0\0\0" + f"file://{path}\0".encode()
    table = b"\0\0\0\0\0\0\0\1" + _box(kind, entry)
    return _with_references(movie, table)


def _alias(path: Path) -> bytes:
    name = path.name.encode()
    record = bytes(10) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12)
    record += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    whole = str(path).encode()
    record += struct.pack(">HH", 2, len(whole)) + whole + b"\0" * (len(whole) % 2) + struct.pack(">H", 0xFFFF)
    return b"\0\0\0\0" + record


def _with_references(content: bytes, table: bytes) -> bytes:
    """Replace `dref` in every track, and make the boxes around it as large as they have to be."""
    made, place = b"", 0
    while place + 8 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        inner = content[place + 8 : place + size]
        if kind == b"dref":
            inner = table
        elif kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            inner = _with_references(inner, table)
        made += _box(kind, inner)
        place += size
    return made


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content
