"""What tasks of several kinds share. Not named in a DAG file."""
