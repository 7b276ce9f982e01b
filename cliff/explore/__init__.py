"""The landscape under sliders: what is shown (`view`), and the page that shows it (`page`)."""
