"""Fuzz targets: functions of bytes that raise only where a promise is broken; for hypothesis and for atheris."""
