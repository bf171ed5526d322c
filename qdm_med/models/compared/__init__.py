"""The networks that QDM is compared with."""
