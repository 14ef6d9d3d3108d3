"""Videos as MP4, where imageio-ffmpeg is installed (the extra `video`)."""

import tempfile
from pathlib import Path
from typing import cast

import numpy as np

from core.config import ConfigError
from core.draw.media import Video


def require_ffmpeg() -> None:
    """Raise ConfigError where nothing can write an MP4."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise ConfigError("an mp4 needs ffmpeg: pip install 'gradsight[video]', or take a gif") from error


def mp4(video: Video) -> bytes:
    """The bytes of an MP4, H.264; a row or column is repeated where a side is odd, which the format has not.

    Raises:
        ConfigError: nothing here can write one.
    """
    require_ffmpeg()
    import imageio_ffmpeg

    height, width = video.frames.shape[1:3]
    frames = np.pad(video.frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        size = frames.shape[2], frames.shape[1]
        writer = imageio_ffmpeg.write_frames(path, size, fps=cast(int, video.fps), macro_block_size=2)
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return path.read_bytes()
