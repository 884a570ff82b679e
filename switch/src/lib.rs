//! The mail program: SMTP in, queue, SMTP out.
