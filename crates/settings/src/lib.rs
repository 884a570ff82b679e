//! The configuration file: every part's settings collected, checked all at once, with line and remedy. Touches no world but the text it is given.
