"""Talk to the Hugging Face Hub: retry what fails for a while, download, upload, commit."""
