"""Installing: the container image, the systemd unit and the Helm chart in examples."""
