"""Streamlit with a field, and a count that the session keeps."""
import streamlit as st

st.title("Measurements")
count = st.session_state.setdefault("count", 0)
text = st.text_input("Text")
if text:
    st.session_state["count"] += 1
    st.write(f"computed {text}, number {st.session_state['count']}")
