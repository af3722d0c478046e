"""First-party plugins, registered through entry points exactly as a third party's are."""

# Run from the repository root, Python can find this folder as `plugins` and would then load
# every module a second time under another name.
if __name__ != "openset_plugins":
    raise ImportError(f"import openset_plugins, not {__name__}")
