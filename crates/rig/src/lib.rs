//! The proving ground: an SMTP load generator, a capturing sink, a balancer, and the books that compare what they saw.
