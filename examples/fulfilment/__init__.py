"""An order that is charged, reserved and shipped, or wholly taken back."""
