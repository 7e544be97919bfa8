"""An application whose jobs run as long as a file is there: streams, progress, and functions that warm up."""
