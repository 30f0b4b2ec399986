"""The browser pages: Gradio behind our own guard. A client of the API and nothing else."""
