"""Talk to the Hugging Face Hub: retry transient failures, download, upload, commit."""
