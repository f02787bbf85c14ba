# What a debugger does with a Linux kernel while somebody types `hostname` at it: see the scenario `gdb`.
# $sethostname and $utsname are set: the system call, whose argument is the user's registers, and where the kernel has
# its name, behind the system's, in fields of 65 bytes.
set pagination off
set confirm off
set remotetimeout 60
target remote /tmp/gdb.sock
set $nodename = (char *)$utsname + 65

# Before there is a page table: hardware breakpoints need no memory.
hbreak *$sethostname
echo GDB waits\n
continue
# The user's RDI, and what it points to.
printf "GDB hbreak %s\n", *(char **)($rdi + 112)
delete

break *$sethostname
continue
printf "GDB break %s\n", *(char **)($rdi + 112)
set $here = $pc
stepi
printf "GDB step %d\n", $pc != $here
delete
printf "GDB kernel's %d %d %d\n", ($cs & 3) == 0, $gs_base != 0, ((long)$cr0 >> 31) & 1
info threads

watch *$nodename
continue
printf "GDB watch %d\n", *$nodename
delete
rwatch *$nodename
continue
printf "GDB rwatch %d\n", *$nodename
delete
awatch *$nodename
continue
printf "GDB awatch %d\n", *$nodename
delete

set var *$nodename = 'T'
printf "GDB writes\n"
detach
