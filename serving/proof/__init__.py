"""What a decision record proves: the same feed again, and why each post stands where it does."""
