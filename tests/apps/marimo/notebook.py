import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    text = mo.ui.text(label="Text")
    text
    return (text,)


@app.cell
def _(text):
    f"computed {text.value}"
    return
