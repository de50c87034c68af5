"""One module per page, each with `show(screen)`. Not called pages: Streamlit would list a folder of that name by itself."""
