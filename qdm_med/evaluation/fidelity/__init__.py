"""How faithful a super-resolved slice is: one family of measures a file, each in HU or pixels."""
