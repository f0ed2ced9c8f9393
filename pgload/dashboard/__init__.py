"""A Streamlit application over the files that `migrate` and `pytest benchmarks` write."""
