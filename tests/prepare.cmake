# Makes what the tests of a run share: the cluster to copy, and an empty folder for what they record.
file(REMOVE_RECURSE ${TEMPLATE} ${RECORDS})
file(MAKE_DIRECTORY ${RECORDS})
execute_process(COMMAND ${PROGRAM} --make-template ${TEMPLATE} RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "the cluster that tests copy could not be made")
endif()
