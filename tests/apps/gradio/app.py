"""Gradio with auth= and a field.

python app.py PORT
"""
import sys

import gradio as gr

page = gr.Interface(lambda text: f"computed {text}", gr.Textbox(label="Text"), gr.Textbox(label="Result"), flagging_mode="never")
page.launch(auth=("ada", "correct horse"), server_name="127.0.0.1", server_port=int(sys.argv[1]))
