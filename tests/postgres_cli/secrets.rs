//! Passwords are in nothing that is printed or stored.
