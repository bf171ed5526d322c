"""Networks that QDM is compared with."""
