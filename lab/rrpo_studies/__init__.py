"""Studies that train many models: real speech, planted artifacts, the monitor."""
