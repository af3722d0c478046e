"""From components, protocol, recipe and options to one resolved experiment."""
