//! A ticket pays once: it cannot be copied.

use inference::meter::Ticket;

fn twice(ticket: &Ticket) -> Ticket {
    ticket.clone()
}

fn main() {}
