"""Bus, shell, mailbox, clock: what runs the actors."""
